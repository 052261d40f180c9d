"""Where MLflow keeps runs and models, and what may be written there: addresses, settings, names. Calls MLflow
nowhere."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from psomerge.errors import ConfigError
from psomerge.tasks.secrets import redact
from psomerge.tasks.tracking.addresses import SERVERS, absolute, check_address, database

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

TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
"""Variables that say where runs are kept, and where models are registered if not there too."""

UNITY_CATALOG = ("databricks-uc", "uc:")
"""Begin the address of a registry whose models' names have three levels."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/ ]{0,199}")
MODEL_NAME = r"\w(?:[\w .+=,-]*[\w.+=,-])?"
"""Of a registered model: all that MLflow takes, but for what would mean something else in `models:/NAME@ALIAS`, in a
search or in a shell."""
_MODEL_NAME_BYTES = 200
"""A copy of the model lies in a folder of its name, which a file system ends at 255."""


@dataclass(frozen=True)
class Store:
    """Where MLflow keeps runs and models."""

    tracking_uri: str
    """`sqlite:////absolute/path.db` or `http://host:port`; may hold a password, so print `address`."""
    artifacts: Path | None = None
    """Folder for files, where this process keeps them; None where a server decides."""
    may_act: Callable[[], None] = field(default=lambda: None, compare=False, repr=False)
    """Called before every act on the registry; raises to keep it from being done."""

    @property
    def address(self) -> str:
        """The tracking URI without user and password."""
        return redact(self.tracking_uri)

    @property
    def registry_uri(self) -> str:
        """Where models are registered, as MLflow's own clients have it: MLFLOW_REGISTRY_URI, which child processes
        inherit, else with the runs."""
        return absolute(os.environ.get(REGISTRY) or self.tracking_uri)

    @property
    def registry(self) -> str:
        """The registry's URI without user and password."""
        return redact(self.registry_uri)

    @property
    def is_divided(self) -> bool:
        """Whether models are registered elsewhere than runs are kept."""
        return self.registry_uri != self.tracking_uri

    @property
    def models(self) -> "Store":
        """By which a version's files are logged and read: a registry's server names them by paths of its own, any other
        registry as the tracking store has them."""
        is_server = self.is_divided and self.registry_uri.startswith(SERVERS)
        return replace(self, tracking_uri=self.registry_uri, artifacts=None) if is_server else self

    @property
    def database(self) -> Path | None:
        """The SQLite file of the registry, if it is one."""
        return database(self.registry_uri)

    def check(self) -> None:
        """Raises ConfigError or SpaceError if nothing can be kept at an address, as `check_address`."""
        check_address(self.tracking_uri, TRACKING)
        if self.is_divided:
            check_address(self.registry_uri, REGISTRY)


def registry_setting() -> str:
    """Returns where the environment has models registered, whoever asks; empty where it says nothing."""
    return absolute(os.environ.get(REGISTRY) or os.environ.get(TRACKING) or "")


def check_model_name(name: str, registry: str = "") -> str:
    """Returns the name of a registered model.

    Args:
        name: to be checked.
        registry: its URI, where it is known.

    Raises:
        ConfigError: it could not be addressed, or the registry does not take it.
    """
    if not re.fullmatch(MODEL_NAME, name) or len(name.encode()) > _MODEL_NAME_BYTES:
        raise ConfigError(
            f"model name: expected letters, digits, _ and, after the first, - . + = , and blanks between them, at "
            f"most {_MODEL_NAME_BYTES} bytes, found {name!r}; rename it"
        )
    if registry.startswith(UNITY_CATALOG) and not re.fullmatch(r"[^. ]+(\.[^. ]+){2}", name):
        raise ConfigError(
            f"model name: the registry at {redact(registry)} is a Unity Catalog: expected CATALOG.SCHEMA.NAME, found "
            f"{name!r}; rename it"
        )
    return name


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
