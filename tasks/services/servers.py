"""Prefect and MLflow servers over the stores of one home folder, on loopback, for pages and schedules. Runs need none.

Each is a detached process of this virtual environment (`tasks/services/daemon.py`): a second start finds it. Servers on
PostgreSQL are docker-compose.yml's business.
"""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from psomerge.tasks.services import daemon
from psomerge.tasks.services.daemon import LOOPBACK, Server, Service
from psomerge.tasks.services.stores import QUIET, artifact_folder, make_private, prefect_settings, tracking_uri

NAMES = ("prefect", "mlflow")


def start_prefect(home: Path, port: int = 0, *, deadline_s: float = 180.0) -> Server:
    """The Prefect server over `home/prefect`, once it answers; the one that runs already, if one does, whatever its
    port.

    Args:
        home: the home folder, made if missing.
        port: where to listen; 0 takes any free port.
        deadline_s: seconds after which a server that does not answer is ended.

    Raises:
        ServiceError: the port is taken, or the server ended or did not answer in time; names its log.
    """
    home = home.resolve()
    make_private(home / "prefect")
    port = port or daemon.free_port()
    environment = _inherited() | prefect_settings(home)
    environment |= {
        # The page asks for its data at this address; without it, always at port 4200.
        "PREFECT_UI_API_URL": f"http://{LOOPBACK}:{port}/api",
        # Else the page's files are written into the installed package, which may be read-only or shared with another
        # server.
        "PREFECT_UI_STATIC_DIRECTORY": str(home / "prefect" / "page"),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    command = ["prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    return daemon.start(home, Service("prefect", port, "/api/health", command, environment), deadline_s=deadline_s)


def start_mlflow(home: Path, port: int = 0, *, deadline_s: float = 180.0) -> Server:
    """The MLflow server over `home/mlflow.db` and `home/artifacts`, once it answers; arguments and errors as for
    `start_prefect`.

    Clients write files straight into `home/artifacts`: a checkpoint of gigabytes through a server would be slow, and
    both are on this machine.
    """
    home = home.resolve()
    artifact_folder(home).mkdir(parents=True, exist_ok=True)
    port = port or daemon.free_port()
    stores = [
        "--backend-store-uri",
        tracking_uri(home),
        "--default-artifact-root",
        artifact_folder(home).as_uri(),
        "--no-serve-artifacts",
    ]
    environment = _inherited() | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    command = ["mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1", *stores]
    return daemon.start(home, Service("mlflow", port, "/health", command, environment), deadline_s=deadline_s)


@contextlib.contextmanager
def serving(home: Path, *, prefect_port: int = 0, mlflow_port: int = 0) -> Iterator[dict[str, Server]]:
    """Both servers by name for the time of the block. Those that this call started are stopped at its end, those that
    ran before go on."""
    before = running(home)
    try:
        with ThreadPoolExecutor(2) as pool:  # each needs seconds to come up
            starts = [pool.submit(start_prefect, home, prefect_port), pool.submit(start_mlflow, home, mlflow_port)]
        yield {server.name: server for server in (start.result() for start in starts)}
    finally:
        for name in set(NAMES) - before.keys():
            stop(home, name)


def running(home: Path) -> dict[str, Server]:
    """The servers of `home` that live and answer now, by name."""
    found = (daemon.find(home.resolve(), name) for name in NAMES)
    return {server.name: server for server in found if server}


def stop(home: Path, name: str) -> None:
    """End the server `name` of `home` with all its processes; nothing happens if it does not run."""
    daemon.stop(home.resolve(), name)


def _inherited() -> dict[str, str]:
    """This process's environment without settings that may be meant for servers elsewhere, and with nothing
    reported."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))} | QUIET
