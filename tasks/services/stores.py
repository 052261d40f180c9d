"""Where a home folder keeps what Prefect and MLflow store, and the settings that make them keep it there, quietly.

The servers (`tasks/services/servers.py`) and a run without servers (`flows/environment/home.py`) use the same files, so
a run made without a server is on the pages of one that is started later.
"""

from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""No library that comes with the program reports what is done with it."""


def prefect_settings(home: Path) -> dict[str, str]:
    """The environment variables that put all that Prefect keeps under `home/prefect`.

    Args:
        home: absolute path of the home folder.
    """
    folder = home / "prefect"
    return {
        "PREFECT_HOME": str(folder),
        "PREFECT_LOCAL_STORAGE_PATH": str(folder / "storage"),
        "PREFECT_SERVER_MEMO_STORE_PATH": str(folder / "memo_store.toml"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder / 'prefect.db'}",
    }


def tracking_uri(home: Path) -> str:
    """The address of the MLflow database of `home` (an absolute path), for a process that opens it without a server."""
    return f"sqlite:///{home / 'mlflow.db'}"


def artifact_folder(home: Path) -> Path:
    """The folder in which runs and models of `home` keep their files."""
    return home / "artifacts"


def make_private(folder: Path) -> Path:
    """Make `folder` if it is missing, for its owner alone; return it. What Prefect and the servers keep holds
    parameters and logs."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
