"""What a finished run prints as next steps runs as it is, in the shell and the folder where the run was."""

import json
import re
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

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
        return subprocess.run(
            ["bash", "-ec", "\n".join(lines)],
            cwd=self.small.folder,
            env=self.small.environment | QUIET | {"PATH": PATH},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    small = small_run(tmp_path_factory.mktemp("steps"), compare={"baselines": []})
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
    done = told.shell(*lines, "kill %1", seconds=400)
    assert done.returncode == 0, done.stderr[-3000:]
    answer, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index('{"id"') :])  # among the server's lines
    assert answer["usage"]["completion_tokens"] >= 1
    assert answer["model"] == "champion/model"


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
