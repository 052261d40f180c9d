"""What a finished run prints as next steps runs as it is, in the shell and the folder where the run was."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pages import blocks
from places import ROOT
from psomerge.tasks.search.items import read
from runs.small_run import Small, kill_all, small_run

pytestmark = pytest.mark.heavy
QUIET = {"BROWSER": "echo", "PYTHONDONTWRITEBYTECODE": "", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Of a shell in which nobody has activated the environment."""


@dataclass(frozen=True)
class Told:
    """A finished run, and the lines that it ends with."""

    small: Small
    lines: list[str]

    def line(self, part: str) -> str:
        (found,) = [line for line in self.lines if part in line]
        return found

    def shell(self, *lines: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Those lines in one bash, whose every line must succeed."""
        process = subprocess.Popen(
            ["bash", "-ec", "\n".join(lines)],
            cwd=self.small.folder,
            env=self.small.environment | QUIET | {"PATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, said = process.communicate(timeout=seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started in the background and did not come to end
        return subprocess.CompletedProcess(process.args, process.returncode, out, said)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    register = {"model": "psomerge-quickstart", "experiment": "small tests"}  # the README's consumer asks for it
    small = small_run(tmp_path_factory.mktemp("steps"), compare={"baselines": []}, register=register)
    (small.folder / ".psomerge").symlink_to(small.home)
    (small.folder / ".venv").symlink_to(sys.prefix)
    small.run()
    again = small.psomerge("run", str(small.config), PATH=PATH)
    assert again.returncode == 0, again.stderr[-3000:]
    _, _, steps = again.stdout.partition("What to do next\n")
    return Told(small, [line.strip() for line in steps.splitlines() if line.strip()])


def test_the_report_is_opened_where_it_lies(told: Told) -> None:
    done = told.shell(told.line("webbrowser"))
    assert done.returncode == 0, done.stderr
    (path,) = re.findall(r"file://(\S+)", done.stdout)
    assert Path(path).read_text().lower().startswith("<!doctype html>")


def test_the_model_is_loaded_and_asked_greedily_for_what_a_test_item_asks(told: Told) -> None:
    ask = told.line("load_model")
    done = told.shell(told.line("MLFLOW_TRACKING_URI"), ask)
    assert done.returncode == 0, done.stderr[-3000:]
    prompt = json.loads(re.findall(r'print\(model\((".*?"), max_new_tokens', ask)[0])
    assert done.stdout.startswith("[{'generated_text': ")
    assert prompt in done.stdout
    again = told.shell(told.line("MLFLOW_TRACKING_URI"), ask.replace(", do_sample=False", ""))
    assert again.stdout == done.stdout  # nor does a pipeline sample on its own account
    (run,) = told.small.runs
    asked = {example.prompt for path in (run / "items").glob("*.parquet") for example in read(path)}
    assert prompt in asked or prompt == "Hello"


def test_the_copy_is_served_on_a_machine_in_use(told: Told) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = [told.line("MLFLOW_TRACKING_URI"), told.line("artifacts download")]
    lines += [told.line(part).replace("8000", port) for part in ("api_server", "curl")]
    done = told.shell(*lines, "kill %1", seconds=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert completion(done.stdout)["model"] == "champion/model"


def completion(out: str) -> dict[str, Any]:
    """The server's answer, which stands among its lines; of one token at least."""
    answer, _ = json.JSONDecoder().raw_decode(out[out.index('{"id"') :])
    assert answer["usage"]["completion_tokens"] >= 1
    return answer


def readme(part: str) -> str:
    (found,) = [one.text for one in blocks(ROOT / "README.md") if part in one.text]
    return found


(ACTIVATE,) = [line for line in readme("bin/activate").splitlines() if "activate" in line]


@pytest.fixture(scope="module")
def champion(told: Told) -> Told:
    """The run, its version promoted by hand, in a shell in which the environment is activated as the README says."""
    give = "import mlflow; mlflow.MlflowClient().set_registered_model_alias('psomerge-quickstart', 'champion', '1')"
    done = told.shell(ACTIVATE, told.line("MLFLOW_TRACKING_URI"), f'python -c "{give}"')
    assert done.returncode == 0, done.stderr[-3000:]
    return told


def test_the_readmes_lines_for_a_consumer_run_as_they_stand(champion: Told) -> None:
    (champion.small.folder / "consumer.py").write_text(readme("load_model"), encoding="utf-8")
    done = champion.shell(ACTIVATE, "python consumer.py")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("[{'generated_text': 'Q: what is Alemania? A:")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    served = readme("api_server").replace("8000", port)
    done = champion.shell(ACTIVATE, served, "kill %1", seconds=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert completion(done.stdout)["model"] == "champion/model"


def test_the_cards_lines_run_as_they_stand(champion: Told) -> None:
    (card,) = champion.small.home.glob("artifacts/models/*/artifacts/README.md")
    code, shell = (one.text for one in blocks(card))
    (champion.small.folder / "card.py").write_text(code, encoding="utf-8")
    download, serve = shell.strip().splitlines()
    done = champion.shell(ACTIVATE, champion.line("MLFLOW_TRACKING_URI"), "python card.py", download)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("[{'generated_text': 'Hello")
    assert (champion.small.folder / "psomerge-quickstart" / "model" / "config.json").is_file()
    # The line that was run above, of another folder.
    served = next(line for line in readme("api_server").splitlines() if "api_server" in line)
    assert serve == served.replace("champion/", "psomerge-quickstart/").removesuffix(" &").replace(" --port 8000", "")


def test_the_pages_are_started(told: Told) -> None:
    line = told.line(" ui").partition("#")[0] + " --prefect-port 0 --mlflow-port 0"
    environment = told.small.environment | QUIET | {"PATH": PATH}
    process = subprocess.Popen(
        ["bash", "-ec", f"exec {line}"],
        cwd=told.small.folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        shown = [process.stdout.readline() for _ in range(3)]
        assert [one.split()[0] for one in shown] == ["prefect:", "mlflow:", "Ctrl-C"]
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()
    finally:
        kill_all(process.pid)
