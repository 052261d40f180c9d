"""Stores are opened before anything costs: what cannot keep runs or models is told by the plan and by every command."""

import socket
import time
from pathlib import Path

import pytest

from doubles.local_mlflow import local_store
from psomerge.errors import ConfigError, ServiceError
from psomerge.tasks.tracking.opening import open_stores
from psomerge.tasks.tracking.store import REGISTRY, TRACKING
from runs.command_line import psomerge
from runs.small_run import small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (TRACKING, REGISTRY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_registry_that_does_not_answer_is_told_with_both_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = local_store(tmp_path)
    open_stores(store, model="qwen2.5-merge")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://me:hidden@127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv(REGISTRY, address)
        with pytest.raises(ServiceError, match=rf"{REGISTRY}") as refused:
            open_stores(store)
    assert address.replace("me:hidden", "***") in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "model", "said"),
    [
        ("databricks-uc", "merge", r"expected CATALOG\.SCHEMA\.NAME"),
        ("uc:http://127.0.0.1:8080", "main.default.merge", "keeps neither tags nor aliases"),
        ("nowhere://x", "merge", r"(?s)nowhere"),
        ("mlruns", "merge", f"export {REGISTRY}=sqlite:///"),
    ],
)
def test_a_registry_that_does_not_take_the_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, model: str, said: str
) -> None:
    monkeypatch.setenv(REGISTRY, uri)
    with pytest.raises((ConfigError, ServiceError), match=said):
        open_stores(local_store(tmp_path), model=model)


@pytest.mark.parametrize("name", [TRACKING, REGISTRY])
@pytest.mark.parametrize("command", ["plan", "run", "evaluate", "check"])
def test_every_command_refuses_a_folder_at_once_with_a_step_that_works(tmp_path: Path, name: str, command: str) -> None:
    (tmp_path / "small").mkdir()
    small = small_run(tmp_path / "small")
    arguments = {
        "evaluate": [small.folder / "base", "--suite", small.folder / "suite.yaml"],
        "check": ["models:/a/1"],
    }.get(command, [small.config])
    folder, begin = tmp_path / "mlruns", time.monotonic()
    said = psomerge(command, *arguments, home=small.home, settings={name: str(folder)})
    assert said.code == 2, said.err
    assert f"{name}: expected a database" in said.err
    assert f"`mkdir -p {folder} && export {name}=sqlite:///{folder}/mlflow.db`" in said.err
    assert time.monotonic() - begin < 60
    assert not (small.home / "runs").exists()
    assert not list(small.home.rglob("*.safetensors"))


def test_a_plan_tells_of_the_store_beside_all_else(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    small = small_run(tmp_path / "small")
    small.change(experts={"one": str(tmp_path / "nowhere")})
    said = psomerge("plan", small.config, home=small.home, settings={TRACKING: "localhost:5000"})
    assert f"`export {TRACKING}=http://localhost:5000`" in said.text
    assert "nowhere: expected a checkpoint folder" in said.text


def test_a_plan_makes_no_store(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    small = small_run(tmp_path / "small")
    named = {TRACKING: f"sqlite:///{tmp_path}/runs.db", REGISTRY: "sqlite:///models.db"}
    for settings in ({}, named):
        said = psomerge("plan", small.config, home=small.home, settings=settings)
        assert said.code == 0, said.err
        assert not list(tmp_path.rglob("*.db"))
        assert (f"small-model at sqlite:///{tmp_path}/models.db" in said.out) == bool(settings)
