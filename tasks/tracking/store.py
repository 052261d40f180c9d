"""Where MLflow keeps runs and models, and what may be written there: addresses, settings, names. Calls MLflow
nowhere."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ConfigError
from psomerge.tasks.secrets import redact

RUN_KEY = "psomerge.run_key"
"""Tag by which run, logged model and version of a pipeline run are found again."""

MODEL_SCHEME = "models:/"
"""Begins the address of a registered version."""

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Used where the environment says nothing else. With MLflow's own defaults a dead server blocks every call for four
minutes."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/ ]{0,199}")


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps runs and models."""

    tracking_uri: str
    """`sqlite:////absolute/path.db` or `http://host:port`; may hold a password, so print `address`."""
    artifacts: Path | None = None
    """Folder for files, where this process keeps them; None where a server decides."""

    @property
    def address(self) -> str:
        """The tracking URI without user and password."""
        return redact(self.tracking_uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file of a local store, else None."""
        return (
            Path(self.tracking_uri.removeprefix("sqlite:///")) if self.tracking_uri.startswith("sqlite:///") else None
        )


def check_name(name: str, what: str) -> str:
    """Returns `name`. Raises ConfigError if it could not be shown or addressed: MLflow itself would take line breaks
    and markup."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what}: expected 1 to 200 letters, digits, blanks and _ . - / (first a letter, digit or _), found "
            f"{name!r}; rename it"
        )
    return name


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets environment variables inside the block: MLflow reads its HTTP settings at every call, and has no other way
    to give them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
