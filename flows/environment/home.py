"""The environment of a run: where Prefect, MLflow, vLLM and the Hugging Face libraries keep their files, quietly.

These libraries read their settings when they are imported, so `prepare` comes before the first import of any of them.
What the user has set stays as it is.
"""

import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from psomerge.errors import ServiceError, SpaceError
from psomerge.tasks.secrets import redact
from psomerge.tasks.services.stores import QUIET, artifact_folder, make_private, prefect_settings, tracking_uri
from psomerge.tasks.step import check_cancelled
from psomerge.tasks.tracking.addresses import SERVERS, absolute
from psomerge.tasks.tracking.store import REGISTRY, TRACKING, Store

SETTINGS = QUIET | {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Stdout is the result's.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # A dead server holds every call for 246 s by default.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    # On the console only; the flow's own lines still go to its page.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    # The default of 20 s is too short for the in-process server on a loaded machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
}

CACHES = {
    "HF_DATASETS_CACHE": "datasets",
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "MPLCONFIGDIR": "matplotlib",
}
"""Variable to folder under `cache/` of the home."""


LEAST_FREE = 64 * 2**20
"""Bytes. On a full disk Prefect's in-process server does not come up, and is waited for in silence for the 300 s
above."""

FULL = 2**20
"""Bytes. With less a disk counts as full: what could not be written was larger than what is left."""


@dataclass(frozen=True)
class Stores:
    """Where a run of this home tracks: `prefect` is None when Prefect runs in-process, `artifacts` None when the
    tracking server chooses the place itself.

    With `artifacts` given, an experiment must be created with this folder as its root: without a server MLflow would
    write into the working folder.
    """

    home: Path
    tracking: str
    artifacts: Path | None
    prefect: str | None

    @property
    def mlflow(self) -> Store:
        """Where MLflow keeps runs and models."""
        return Store(self.tracking, self.artifacts, may_act=check_cancelled)


def home_folder(environment: MutableMapping[str, str] | None = None) -> Path:
    """The absolute path of the home folder: PSOMERGE_HOME, or `.psomerge` in the working folder; not made."""
    environment = os.environ if environment is None else environment
    return Path(environment.get("PSOMERGE_HOME") or ".psomerge").expanduser().resolve()


def full_disk() -> str | None:
    """Returns a line that names the folder without room among those that a run writes to: its home, and the system's
    for temporary files. None: both have."""
    for folder in (home_folder(), Path(tempfile.gettempdir())):
        if folder.exists() and shutil.disk_usage(folder).free < FULL:
            return f"no room is left in {folder}"
    return None


def prepare(home: Path, environment: MutableMapping[str, str] | None = None) -> Stores:
    """Set what is not set yet in `environment`, make the folders, and return the addresses that hold now.

    Servers come in this order: MLFLOW_TRACKING_URI and PREFECT_API_URL of the user, the servers that `psomerge ui` runs
    over this home, the files of this home. Models are registered where MLFLOW_REGISTRY_URI says, else there too. A
    SQLite file's path is made absolute: child processes work in other folders.

    Args:
        home: absolute path of the home folder.
        environment: what to change; that of this process unless given.

    Raises:
        SpaceError: the home folder cannot be made or written.
    """
    from psomerge.tasks.services.servers import running

    environment = os.environ if environment is None else environment
    _make_folders(home)
    settle(home, environment)
    servers = running(home)
    embedded = servers["mlflow"].api if "mlflow" in servers else tracking_uri(home)
    tracking = absolute(environment.get(TRACKING) or embedded)
    environment[TRACKING] = tracking
    if registry := environment.pop(REGISTRY, ""):  # MLflow would take an empty one for an address
        environment[REGISTRY] = absolute(registry)
    if not environment.get("PREFECT_API_URL"):
        environment.pop("PREFECT_API_URL", None)  # Prefect would take an empty one for an address
        if "prefect" in servers:
            environment["PREFECT_API_URL"] = servers["prefect"].api
    # By value: a child process finds both addresses set, by this function in its parent.
    artifacts = artifact_folder(home) if tracking in (embedded, tracking_uri(home)) else None
    return Stores(home=home, tracking=tracking, artifacts=artifacts, prefect=environment.get("PREFECT_API_URL"))


def settle(home: Path, environment: MutableMapping[str, str] | None = None) -> None:
    """Sets what keeps libraries quiet, their waiting short and their files in the home, where nothing else is set, and
    makes nothing; must come before the first import of any of them.

    Args:
        home, environment: as of `prepare`.
    """
    environment = os.environ if environment is None else environment
    paths = {variable: str(home / "cache" / folder) for variable, folder in CACHES.items()}
    for variable, value in (SETTINGS | paths | prefect_settings(home)).items():
        environment.setdefault(variable, value)


def open_named_stores(home: Path, *, model: str | None = None) -> None:
    """Returns once the stores of MLflow that the user has named have answered, before anything else is done or made;
    the home's own are this program's matter.

    Args:
        home: absolute path of the home folder; settled.
        model: name that a version will be registered under; None where none will be.

    Raises:
        ConfigError, ServiceError, SpaceError: as `tasks.tracking.opening.open_stores`.
    """
    from psomerge.tasks.tracking.opening import open_stores

    tracking = absolute(os.environ.get(TRACKING, ""))
    if os.environ.get(REGISTRY) or tracking not in ("", tracking_uri(home)):
        open_stores(prepare(home).mlflow, model=model, make=False)


def check_servers(stores: Stores) -> None:
    """Returns if the servers that a run is to use answer, whatever they say; what runs in-process or keeps files is not
    asked.

    Without this Prefect ends in a RuntimeError, and MLflow's client tries for half a minute.

    Raises:
        ConfigError, SpaceError: nothing can be kept at an address of MLflow's.
        ServiceError: no server answers at an address within 10 s.
    """
    stores.mlflow.check()
    if stores.prefect is not None:
        _ask(stores.prefect, "Prefect", "PREFECT_API_URL")
    if stores.tracking.startswith(SERVERS):
        _ask(stores.tracking, "MLflow", TRACKING)
    if stores.mlflow.is_divided and stores.mlflow.registry_uri.startswith(SERVERS):
        _ask(stores.mlflow.registry_uri, "MLflow's registry", REGISTRY)


def _ask(address: str, name: str, variable: str) -> None:
    anonymous = re.sub(r"(?<=://)[^/@]*@", "", address)  # urllib takes a user for a part of the host
    try:
        with urllib.request.urlopen(f"{anonymous.rstrip('/')}/health", timeout=10):
            return
    except urllib.error.HTTPError:
        return  # it answers; rights are its own matter
    except (OSError, HTTPException, ValueError) as error:
        text = (
            f"{name} at {redact(address)}: {error}; check that it runs and that {variable} names it, or unset that, "
            "then repeat the command"
        )
        raise ServiceError(text) from error


def _make_folders(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
        make_private(home / "prefect")
        artifact_folder(home).mkdir(exist_ok=True)
        (home / "cache").mkdir(exist_ok=True)
        free = shutil.disk_usage(home).free
    except OSError as error:
        text = (
            f"the home folder must be writable, found {error.strerror} at {error.filename}; set PSOMERGE_HOME to a "
            "folder that is"
        )
        raise SpaceError(text) from error
    if free < LEAST_FREE:
        found = f"{free // 2**20} MiB"
        raise SpaceError(
            f"the home folder needs {LEAST_FREE // 2**20} MiB free to begin with, found {found} at {home}; make room "
            "or set PSOMERGE_HOME"
        )
