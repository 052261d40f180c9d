"""`flows.environment.home.prepare`: everything under the home, quiet, and the right servers. Fresh processes: the
libraries read settings at import."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from places import ROOT
from psomerge.errors import ServiceError, SpaceError
from psomerge.flows.environment.home import Stores, check_servers, home_folder, prepare
from psomerge.tasks.services.servers import start_mlflow, start_prefect, stop

pytestmark = pytest.mark.heavy

# What a run does first; then an experiment with one file and one flow.
RUN = """
import json, sys
from pathlib import Path
from psomerge.flows.environment.home import home_folder, prepare
assert not {"prefect", "mlflow", "vllm", "torch", "transformers", "datasets"} & set(sys.modules)
stores = prepare(home_folder())
import mlflow
from prefect import flow, get_run_logger
from prefect.settings import get_current_settings
@flow
def seven():
    get_run_logger().info("a line for the page")
    return 7
assert seven() == 7
mlflow.create_experiment("one", artifact_location=stores.artifacts.as_uri())
mlflow.set_experiment("one")
with mlflow.start_run():
    mlflow.log_text("text", "note.txt")
settings = get_current_settings()
print(json.dumps({"stores": [stores.tracking, stores.prefect], "home": str(stores.home),
                  "analytics": settings.server.analytics_enabled,
                  "prefect": [str(settings.home), str(settings.results.local_storage_path),
                              str(settings.server.memo_store_path)]}))
"""


def run_in(folder: Path, **settings: str) -> tuple[dict, str]:
    """What RUN printed last, and what it wrote to stderr, as a user of this folder with a bare environment."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(folder / "user"), "PYTHONPATH": str(ROOT)}
    (folder / "user").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=folder, env=bare | settings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_run_without_servers_keeps_everything_in_its_home(tmp_path: Path) -> None:
    said, stderr = run_in(tmp_path)
    home = tmp_path / ".psomerge"
    assert said["home"] == str(home)
    assert said["stores"] == [f"sqlite:///{home}/mlflow.db", None]
    assert said["prefect"] == [f"{home}/prefect", f"{home}/prefect/storage", f"{home}/prefect/memo_store.toml"]
    assert said["analytics"] is False
    assert (home / "mlflow.db").stat().st_size > 0
    assert (home / "prefect" / "prefect.db").stat().st_size > 0
    assert (home / "prefect").stat().st_mode & 0o777 == 0o700
    assert len(list((home / "artifacts").rglob("note.txt"))) == 1
    # Nothing beside the home: no mlruns in the working folder, no .prefect or .config in the user's.
    assert sorted(path.name for path in tmp_path.iterdir()) == [".psomerge", "user"]
    assert list((tmp_path / "user").iterdir()) == []
    assert "a line for the page" not in stderr


def test_servers_of_the_home_are_used_while_they_run(tmp_path: Path) -> None:
    home = tmp_path / ".psomerge"
    try:
        prefect, mlflow = start_prefect(home), start_mlflow(home)
        said, _ = run_in(tmp_path)
        assert said["stores"] == [mlflow.api, prefect.api]
        assert len(list((home / "artifacts").rglob("note.txt"))) == 1  # where it is without a server, too
    finally:
        stop(home, "prefect")
        stop(home, "mlflow")
    environment: dict[str, str] = {}
    assert prepare(home, environment).prefect is None
    assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{home}/mlflow.db"


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    given = {
        "MLFLOW_TRACKING_URI": "http://tracking.example:5000",
        "PREFECT_API_URL": "http://flows.example/api",
        "HF_HUB_OFFLINE": "0",
        "MPLCONFIGDIR": "/fonts",
    }
    environment = dict(given)
    stores = prepare(tmp_path, environment)
    assert {key: environment[key] for key in given} == given
    assert (stores.tracking, stores.prefect, stores.artifacts) == (
        given["MLFLOW_TRACKING_URI"],
        given["PREFECT_API_URL"],
        None,
    )


def test_an_empty_address_is_none(tmp_path: Path) -> None:
    environment = {"MLFLOW_TRACKING_URI": "", "PREFECT_API_URL": ""}
    stores = prepare(tmp_path, environment)
    assert stores.tracking == environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert stores.prefect is None
    assert "PREFECT_API_URL" not in environment


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    first = prepare(tmp_path, environment)
    after = dict(environment)
    second = prepare(tmp_path, environment)
    assert environment == after
    assert second == first


def test_the_home_is_named_by_the_environment_or_lies_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_folder({}) == tmp_path / ".psomerge"
    assert home_folder({"PSOMERGE_HOME": ""}) == tmp_path / ".psomerge"
    assert home_folder({"PSOMERGE_HOME": "elsewhere"}) == tmp_path / "elsewhere"
    assert home_folder({"PSOMERGE_HOME": "~/kept"}) == Path.home() / "kept"


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceError, match=f"found Not a directory at {tmp_path}/file/home; set PSOMERGE_HOME"):
        prepare(tmp_path / "file" / "home", {})


@pytest.mark.parametrize(
    ("tracking", "prefect", "named"),
    [("http://user:hidden@{}", None, "MLflow"), ("sqlite:///x.db", "http://{}/api", "Prefect")],
)
def test_a_server_that_is_not_there_is_named_at_once_and_without_its_password(
    tmp_path: Path, tracking: str, prefect: str | None, named: str
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        stores = Stores(tmp_path, tracking.format(place), None, prefect and prefect.format(place))
        begin = time.monotonic()
        with pytest.raises(ServiceError, match=f"^{named} at http.*: .*efused.*; check that it runs") as refused:
            check_servers(stores)
    assert time.monotonic() - begin < 5
    assert "hidden" not in str(refused.value)


def test_stores_without_a_server_are_not_asked(tmp_path: Path) -> None:
    check_servers(Stores(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", tmp_path, None))


def test_a_server_that_answers_anything_is_there(tmp_path: Path) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(401)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        check_servers(Stores(tmp_path, place, None, f"{place}/api/"))
        server.shutdown()
    assert asked == ["/api/health", "/health"]
