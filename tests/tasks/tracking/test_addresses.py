"""What no store can be at is refused with a command that mends it, and without asking anybody."""

import os
import re
import sqlite3
import subprocess
from pathlib import Path

import pytest

from psomerge.errors import ConfigError, PsomergeError, SpaceError
from psomerge.tasks.tracking.addresses import absolute, check_address, database

NAME = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(uri: str) -> str:
    with pytest.raises(PsomergeError) as refused:
        check_address(uri, NAME)
    return str(refused.value)


def exported(text: str) -> str:
    """The address that a shell has after the commands of a message."""
    commands = re.search(r"`([^`]*export [^`]*)`", text)
    assert commands, text
    script = re.sub(r"mlflow migrate-filestore [^&]*&& ", "", commands[1]) + f'; printf %s "${NAME}"'
    return subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.heavy
@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "{here}/a b", "file://{here}/mlruns", "file:{here}/none", "~/x"])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_refused_with_commands_that_give_a_database(
    here: Path, uri: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    uri = uri.format(here=here)
    folder = Path(uri.removeprefix("file://").removeprefix("file:")).expanduser().absolute()
    if there:
        folder.mkdir(parents=True)
    text = refusal(uri)
    assert str(folder) in text
    assert f"`unset {NAME}`" in text
    check_address(exported(text), NAME)


def test_a_folder_that_holds_runs_is_migrated(here: Path) -> None:
    (here / "mlruns" / "0").mkdir(parents=True)
    (here / "mlruns" / "0" / "meta.yaml").write_text("")
    command = f"mlflow migrate-filestore --source {here}/mlruns --target sqlite:///{here}/mlruns/mlflow.db && export"
    assert command in refusal("mlruns")


def test_a_folder_is_taken_where_mlflow_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_address("mlruns", NAME)


@pytest.mark.heavy
@pytest.mark.parametrize("uri", ["localhost:5000", "127.0.0.1:5000", "mlflow.example.org:80/x"])
def test_a_server_without_its_scheme_gets_one(uri: str) -> None:
    assert exported(refusal(uri)) == f"http://{uri}"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite://", "that every process can open"),
        ("sqlite:///", "that every process can open"),
        ("sqlite:///:memory:", "that every process can open"),
        ("http://", "give the server's name"),
        ("sqlite:////{here}/none/mlflow.db", "its folder is not there; `mkdir -p"),
        ("sqlite:////{here}", "found the folder"),
        ("sqlite:////{here}/text", "found another file"),
    ],
)
def test_an_address_that_cannot_be_is_refused(here: Path, uri: str, said: str) -> None:
    (here / "text").write_text("this is no database")
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_address(uri.format(here=str(here).lstrip("/")), NAME)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written_is_told(here: Path) -> None:
    file = here / "mlflow.db"
    sqlite3.connect(file).execute("create table t (a)").connection.close()
    file.chmod(0o400)
    with pytest.raises(SpaceError, match="cannot be written"):
        check_address(f"sqlite:///{file}", NAME)


def test_what_may_be_a_store_passes(here: Path) -> None:
    made = here / "made.db"
    with sqlite3.connect(made) as connection:
        connection.execute("create table t (a)")
    connection.close()
    (here / "empty.db").touch()
    for uri in (
        f"sqlite:///{made}",
        f"sqlite:///{here}/new.db?timeout=5",
        f"sqlite:///{here}/empty.db",
        "postgresql://user:hidden@host/db",
        "http://user:hidden@host:5000",
        "https://host/mlflow",
        "databricks",
        "databricks-uc://profile",
        "uc:http://host:8080",
    ):
        check_address(uri, NAME)


def test_a_relative_file_is_named_by_its_whole_path(here: Path) -> None:
    assert absolute("sqlite:///a/b.db") == f"sqlite:///{here}/a/b.db"
    assert database(absolute("sqlite:///b.db?timeout=5")) == here / "b.db"
    for uri in ("sqlite:////a/b.db", "http://host", "", "sqlite:///:memory:", "postgresql://host/db"):
        assert absolute(uri) == uri
        assert uri.startswith("sqlite:////") or database(uri) is None
