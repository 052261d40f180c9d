"""What people look at: the services' pages, the report of a run, and what to do with its result."""

import os
import signal
import threading
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError
from psomerge.files.untrusted import read_json
from psomerge.flows.environment.home import home_folder, prepare
from psomerge.tasks.release.flavour import CONFIG_LIMIT, is_paired
from psomerge.tasks.report import page as pages
from psomerge.tasks.report.summary import read


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Starts the Prefect and MLflow servers over this home on loopback, prints their addresses, and ends them at Ctrl-C
    or SIGTERM. Port 0 is any free one."""
    from psomerge.tasks.services.servers import serving

    home = home_folder()
    prepare(home)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # the first is ignored where a shell started us in the background, the second would leave the servers
        signal.signal(number, signal.default_int_handler)
    with serving(home, prefect_port=prefect_port, mlflow_port=mlflow_port) as servers:
        for name, server in servers.items():
            print(f"{name}: {server.page}", flush=True)
        print("Ctrl-C ends both; runs started meanwhile appear there live", flush=True)
        threading.Event().wait()


def report_of(run: str, home: Path) -> Path:
    """Returns the path of a run's page, written anew from its summary.

    Args:
        run: run key, its beginning, or the folder.

    Raises:
        ConfigError: no run, or several, of that name.
        StateError: a run without a summary, or with a damaged one.
    """
    found = [Path(run)] if os.sep in run else sorted((home / "runs").glob(f"{run}*"))
    folders = [folder for folder in found if (folder / "run.json").is_file()]
    if len(folders) != 1:
        raise ConfigError(
            f"{run}: expected one run under {home / 'runs'}, found {len(folders)}; give its key as `psomerge run` "
            "printed it"
        )
    report = folders[0] / "report"
    return pages.write(read(report / "summary.json"), report)


def has_package(name: str) -> bool:
    """Returns whether a distribution of this name is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def next_steps(result: Mapping[str, Any]) -> list[str]:
    """Returns what to do with a result, as commands."""
    serve_with = (
        "vllm serve" if has_package("vllm") else "python -m vllm.entrypoints.openai.api_server --model"
    )  # the CPU build's own command does not start
    paired = is_paired(read_json(Path(result["checkpoint"]) / "config.json", CONFIG_LIMIT))
    uri = result["model_uri"] if result["alias"] != "champion" else result["model_uri"].rpartition("/")[0] + "@champion"
    download = f"mlflow artifacts download --artifact-uri {uri} --dst-path champion"
    load = f'mlflow.transformers.load_model("{uri}"'
    return [
        "psomerge ui                        the Prefect and MLflow pages",
        f"open {result['report']}",
        f"export MLFLOW_TRACKING_URI={result['tracking_uri']}",
        # Of a sequence-to-sequence model its card says how to go on: there is neither a pipeline nor a server for it.
        f"python -c 'import mlflow; print({load}, return_type=\"components\"))'"
        if paired
        else f"python -c 'import mlflow; print({load})(\"Turkey in Basque is\", max_new_tokens=8))'",
        download if paired else f"{download} && {serve_with} champion/model",
    ]
