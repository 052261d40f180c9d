"""Addresses of MLflow's stores: those that cannot be used are told apart without asking anybody, and without MLflow."""

import os
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psomerge.errors import ConfigError, SpaceError
from psomerge.tasks.secrets import redact

SQLITE = "sqlite:///"
SERVERS = ("http://", "https://")
_HEAD = b"SQLite format 3\0"
_WITHOUT_SCHEME = re.compile(r"[\w.-]+:\d+(/.*)?", re.ASCII)
_KINDS = "a database (sqlite:////FOLDER/mlflow.db, postgresql://...) or a server (http://HOST:PORT)"


def absolute(uri: str) -> str:
    """Returns the URI of a SQLite file so that it means the same from every folder; any other as it is."""
    path = uri.removeprefix(SQLITE)
    is_relative = path != uri and path and not path.startswith(("/", ":", "file:"))
    return f"{SQLITE}{Path.cwd() / path}" if is_relative else uri


def database(uri: str) -> Path | None:
    """Returns the file of a SQLite store, None of any other."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if path.startswith("/") and uri.startswith(SQLITE) else None


def check_address(uri: str, variable: str) -> None:
    """Returns if a store can be there, as far as that is known without asking anybody.

    Args:
        uri: of the store.
        variable: that says so, for messages.

    Raises:
        ConfigError: a folder, a database in memory, a file that is no database, an address without its scheme.
        SpaceError: a file that cannot be made or written.
    """
    uri = absolute(uri)
    if file := database(uri):
        _check_file(file, variable)
        return
    shown = redact(uri)
    if uri.startswith("sqlite:"):
        raise ConfigError(
            f"{variable}: expected the path of a database that every process can open, found {shown}; "
            f"`export {variable}={SQLITE}{Path.cwd() / 'mlflow.db'}`, or `unset {variable}`"
        )
    parts = urlsplit(uri)
    if _WITHOUT_SCHEME.fullmatch(uri):
        raise ConfigError(f"{variable}: expected {_KINDS}, found {shown}; `export {variable}=http://{uri}`")
    if parts.scheme in ("http", "https") and not parts.hostname:
        raise ConfigError(f"{variable}: expected {_KINDS}, found {shown}; give the server's name")
    if uri.startswith("databricks"):
        return  # a word of its own, without a scheme
    if parts.scheme in ("", "file") and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        folder = Path(unquote(parts.path) if parts.scheme else uri).expanduser().absolute()
        raise ConfigError(
            f"{variable}: expected {_KINDS}, found the folder {folder}, and MLflow keeps nothing in folders any more; "
            f"{_way_out(folder, variable)}, or `unset {variable}` to use this home's own"
        )


def _way_out(folder: Path, variable: str) -> str:
    """Commands that give a database in the place of a folder, with what the folder holds."""
    if folder.is_file():
        return f"`export {variable}={shlex.quote(f'{SQLITE}{folder}')}` if that is a SQLite database"
    uri = f"{SQLITE}{folder / 'mlflow.db'}"
    export = f"export {variable}={shlex.quote(uri)}"
    if any(folder.glob("*/meta.yaml")):
        return f"`mlflow migrate-filestore --source {shlex.quote(str(folder))} --target {shlex.quote(uri)} && {export}`"
    return f"`{export}`" if folder.is_dir() else f"`mkdir -p {shlex.quote(str(folder))} && {export}`"


def _check_file(file: Path, variable: str) -> None:
    if file.is_dir():
        uri = shlex.quote(f"{SQLITE}{file / 'mlflow.db'}")
        raise ConfigError(f"{variable}: expected a database's file, found the folder {file}; `export {variable}={uri}`")
    if not file.parent.is_dir():
        raise ConfigError(
            f"{variable}: {file}: its folder is not there; `mkdir -p {shlex.quote(str(file.parent))}`, or correct the "
            "path"
        )
    try:
        head = b""
        if file.exists():
            with file.open("rb") as opened:
                head = opened.read(len(_HEAD))
    except OSError as error:
        raise SpaceError(f"{variable}: {file}: {error.strerror}; correct its rights") from error
    if head and head != _HEAD:
        raise ConfigError(f"{variable}: expected a SQLite database, found another file at {file}; name a new one")
    written = file if file.exists() else file.parent
    if not os.access(written, os.W_OK):
        raise SpaceError(f"{variable}: {written} cannot be written; correct its rights, or name another place")
