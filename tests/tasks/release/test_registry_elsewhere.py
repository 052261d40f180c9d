"""MLFLOW_REGISTRY_URI: runs are kept in one place, models registered in another, and everybody asks the right one."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from doubles.local_mlflow import local_store, published, server
from doubles.stock_mlflow import logged
from psomerge.errors import ConfigError
from psomerge.tasks.release import registry
from psomerge.tasks.release.delivery import deliver
from psomerge.tasks.release.promote import Promotion, promote
from psomerge.tasks.release.registry import Version
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.sources.origin import Access
from psomerge.tasks.sources.preview import preview_all
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.store import REGISTRY, TRACKING, Store

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
KEY = "a" * 64
# Another program: MLflow alone, told by the two variables.
CONSUMER = """
import json, sys
import mlflow
found = mlflow.MlflowClient().get_model_version_by_alias(sys.argv[1], "champion")
place = mlflow.artifacts.download_artifacts(f"models:/{sys.argv[1]}@champion", dst_path=sys.argv[2])
print(json.dumps({"version": str(found.version), "place": place, "tags": found.tags}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with server(tmp_path_factory.mktemp("tracking")) as one, server(tmp_path_factory.mktemp("registry")) as other:
        yield one, other


@pytest.fixture(params=["file and file", "file and server", "server and file", "server and server"])
def divided(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    runs, models = request.param.split(" and ")
    servers = request.getfixturevalue("servers") if "server" in request.param else ("", "")
    for name in ("runs", "models"):
        (tmp_path / name).mkdir()
    store = local_store(tmp_path / "runs") if runs == "file" else Store(servers[0])
    address = local_store(tmp_path / "models").tracking_uri if models == "file" else servers[1]
    monkeypatch.setenv(REGISTRY, address)
    monkeypatch.setenv(TRACKING, store.tracking_uri)
    return store


def register(store: Store, model: Path, name: str) -> Version:
    run = track.start(store, "merges", run_key=KEY, name="n")
    files = registry.run_for_files(run, "merges", run_key=KEY, name="n")
    model_id = registry.upload(files, model, run_key=KEY, name=name)
    return registry.register(files, name, run_key=KEY, model_id=model_id, tags={"fitness": "0.5"}, description="card")


def digests(folder: Path) -> dict[str, str]:
    skipped = ("MLmodel", "registered_model_meta")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in skipped
    }


def names_at(address: str) -> list[str]:
    """Of registered models, asked of one store alone."""
    from mlflow import MlflowClient

    return [one.name for one in MlflowClient(address, address).search_registered_models()]


def test_a_version_is_registered_served_and_promoted_there(
    divided: Store, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = "qwen2.5-" + str(abs(hash(request.node.name)))
    first, again = register(divided, model, name), register(divided, model, name)
    assert first == again
    assert name in names_at(os.environ[REGISTRY])
    assert name not in names_at(divided.tracking_uri)
    assert os.environ[TRACKING] == divided.tracking_uri  # nothing that is started now asks elsewhere
    (tmp_path / "delivered").mkdir()
    assert digests(deliver(divided, first.uri, tmp_path / "delivered")) == digests(model)
    assert promote(divided, first, decision=Promotion(True, "best"), compared_with=None).promoted
    bearer = registry.bearer(divided, name, "champion")
    assert bearer is not None
    assert bearer.version == first.version

    consumer = tmp_path / "consumer"
    consumer.mkdir()
    settings = {**os.environ, TRACKING: divided.models.tracking_uri}  # as the next steps tell
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, name, str(consumer)],
        env=settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["version"], said["tags"]["fitness"]) == (first.version, "0.5")
    assert digests(Path(said["place"])) == digests(model)


def test_it_is_an_expert_planned_and_fetched_from_there(divided: Store, model: Path, tmp_path: Path) -> None:
    version = register(divided, model, "expert.of-mine")
    registry.give_alias(divided, version, "best")
    home = tmp_path / "home"
    seen, failures = preview_all(
        {"base": "models:/expert.of-mine@best"}, Access(home, lambda what, share: None, lambda: divided)
    )
    assert not failures
    assert seen["base"].source == version.uri
    fetched = fetch("models:/expert.of-mine@best", home, lambda what, share: None, store=lambda: divided)
    assert digests(fetched.folder) == digests(model / "model")
    again, _ = preview_all({"base": version.uri}, Access(home, lambda what, share: None, None))
    assert again["base"].whole  # found on this machine without asking


def test_what_mlflow_itself_registered_there_is_an_expert(divided: Store, model: Path, tmp_path: Path) -> None:
    version = logged(divided.models, str(model / "model"), "stock model")
    fetched = fetch(version.uri, tmp_path / "home", lambda what, share: None, store=lambda: divided)
    assert (fetched.folder / "model.safetensors").read_bytes() == (model / "model/model.safetensors").read_bytes()


def test_a_relative_file_means_the_same_registry_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(REGISTRY, "sqlite:///models.db")
    store = Store("sqlite:////elsewhere/mlflow.db")
    assert store.registry_uri == f"sqlite:///{tmp_path}/models.db"
    assert store.database == tmp_path / "models.db"
    monkeypatch.setenv(REGISTRY, "")
    assert not store.is_divided


@pytest.mark.parametrize("uri", ["databricks-uc", "databricks-uc://profile", "uc:http://127.0.0.1:8080"])
def test_a_unity_catalog_wants_three_levels(uri: str) -> None:
    assert registry.check_model_name("main.default.merge", uri) == "main.default.merge"
    for name in ("merge", "default.merge", "a.b.c.d", "a b.c.d", "a..c"):
        with pytest.raises(ConfigError, match=r"Unity Catalog: expected CATALOG\.SCHEMA\.NAME"):
            registry.check_model_name(name, uri)


def test_a_unity_catalog_which_searches_by_name_alone_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    class Catalog:
        def search_model_versions(self, search: str) -> list[Any]:
            assert search == "name = 'main.default.merge'"
            return [SimpleNamespace(version=number) for number in (10, 9, 2)]

        def get_model_version(self, name: str, version: str) -> Any:
            key = KEY if int(version) > 2 else "b" * 64
            return SimpleNamespace(version=version, tags={"psomerge.run_key": key}, aliases=["challenger"])

    @contextmanager
    def connected(store: Store) -> Iterator[Any]:
        yield Catalog()

    monkeypatch.setenv(REGISTRY, "databricks-uc")
    monkeypatch.setattr(registry, "connect", connected)
    found = registry.find(Store("sqlite:////elsewhere/mlflow.db"), "main.default.merge", run_key=KEY)
    assert found is not None
    assert found.version == "9"
