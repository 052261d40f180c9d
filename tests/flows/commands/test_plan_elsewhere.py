"""What `psomerge plan` says of adapters, of versions of the registry and of earlier runs."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from doubles.hub_server import Hub, passed_off, serving
from doubles.local_mlflow import local_store, published, server
from made.adapters import lora
from made.extended import extended
from made.models import tiny_llama, toy_checkpoint
from made.summaries import example
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.flows.commands import costs
from psomerge.run.folder import RunFolder
from psomerge.tasks.release import registry
from psomerge.tasks.report import summary as summaries
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.sources.registry import headers as registered_headers
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.store import Store
from runs.command_line import psomerge

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]
NORM = "model.norm.weight"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, which the client takes for the real one."""
    with serving() as hub:
        passed_off(hub, monkeypatch, tmp_path)
        yield hub


def written(folder: Path, base: str, **experts: str) -> Path:
    """A config over these models."""
    path = folder / "small.yaml"
    path.write_text(
        yaml.safe_dump(
            {"name": "small", "base": base, "experts": experts, "suite": "bayling2", "register": {"model": "small"}}
        )
    )
    return path


def planned(config: Path, home: Path, **settings: str) -> dict[str, Any]:
    said = psomerge("plan", config, "--json", home=home, settings=settings)
    assert said.code == 0, said.err
    return json.loads(said.out)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_adapter_of_the_hub_is_held_against_its_base_by_its_header(served: Hub, tmp_path: Path) -> None:
    base, home = tiny_llama(tmp_path / "base"), tmp_path / "home"
    served.push(
        "org/adapter", files(lora(base, tmp_path / "adapter", 1, r=4, target_modules=["q_proj", "embed_tokens"]))
    )
    config = written(tmp_path, str(base), one="hf://org/adapter")
    plan = planned(config, home)
    weights = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert (plan["to_fetch"], plan["models"]["one"]["download_bytes"]) == (["one"], weights)
    assert not list(home.rglob("*.safetensors"))
    fetch("hf://org/adapter", home, lambda what, share: None)
    assert planned(config, home)["memory"] == plan["memory"]
    smaller = psomerge(
        "plan",
        written(tmp_path, str(tiny_llama(tmp_path / "other", hidden=32)), one="hf://org/adapter"),
        home=tmp_path / "second",
    )
    assert smaller.code == 3
    assert "has a product of shape [64, 64], the base's tensor has [32, 32]" in smaller.text


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A registry in files with two versions of `merged`, the second of them champion."""
    folder = tmp_path_factory.mktemp("registry")
    return stock(local_store(folder), folder)


def stock(store: Store, folder: Path) -> Store:
    for seed in (1, 2):
        key = str(seed) * 64
        run = track.start(store, "merges", run_key=key, name="n")
        model_id = registry.upload(run, published(folder / f"made{seed}", seed=seed), run_key=key, name="merged")
        version = registry.register(run, "merged", run_key=key, model_id=model_id, tags={}, description="")
    registry.give_alias(store, version, "champion")
    return store


def test_versions_in_files_are_seen_where_they_are_and_an_alias_is_what_it_is_now(
    stocked: Store, tmp_path: Path
) -> None:
    assert stocked.database
    home = stocked.database.parent
    plan = planned(written(tmp_path, "models:/merged/1", one="models:/merged@champion"), home)
    weights = home / "made1" / "published" / "model"
    assert plan["models"]["one"]["source"] == "models:/merged/2"
    assert plan["disk"]["download_bytes"] == 2 * sum(file.stat().st_size for file in weights.iterdir())
    assert plan["model_bytes"] == costs.stored_bytes(open_checkpoint(weights))
    registry.give_alias(stocked, registry.Version("merged", "1", {}), "champion")
    again = fetch("models:/merged@champion", home, lambda what, share: None, store=lambda: stocked)
    assert again.source == "models:/merged/1"  # a plan binds nobody
    other = toy_checkpoint(tmp_path / "toy", {NORM: torch.zeros(4)})
    said = psomerge("plan", written(tmp_path, str(other), one="models:/merged/1"), home=home)
    assert (said.code, "that the base has not" in said.text) == (3, True)
    said = psomerge("plan", written(tmp_path, str(other), one="models:/merged/7"), home=home)
    assert (said.code, "has no such version; known are 1, 2" in said.text) == (3, True)


def test_of_a_server_headers_are_read_and_of_another_store_s_files_it_is_said_that_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other, home = tiny_llama(tmp_path / "base"), tiny_llama(tmp_path / "other", hidden=32), tmp_path / "home"
    with server(tmp_path) as address:
        stock(Store(address), tmp_path)
        plan = planned(written(tmp_path, str(base), one="models:/merged/1"), home, MLFLOW_TRACKING_URI=address)
        said = psomerge(
            "plan",
            written(tmp_path, str(other), one="models:/merged/1"),
            home=home,
            settings={"MLFLOW_TRACKING_URI": address},
        )
        longer = extended(base, tmp_path / "longer", [], 1, multiple=100)  # rows that the version has not
        other_rows = planned(written(tmp_path, str(longer), one="models:/merged/1"), home, MLFLOW_TRACKING_URI=address)
        toy = toy_checkpoint(tmp_path / "toy", {NORM: torch.zeros(4)}, json.loads((base / "config.json").read_text()))
        unlike = psomerge(
            "plan",
            written(tmp_path, str(toy), one="models:/merged/1"),
            home=home,
            settings={"MLFLOW_TRACKING_URI": address},
        )
        monkeypatch.setattr(registered_headers, "_SERVED", ())
        unseen = planned(written(tmp_path, str(longer), one="models:/merged/1"), home, MLFLOW_TRACKING_URI=address)
    assert (plan["warnings"], other_rows["warnings"]) == ([], [])
    assert (unlike.code, "that the base has not" in unlike.text) == (3, True)
    assert plan["models"]["one"]["download_bytes"] == sum(
        len(content) for content in files(tmp_path / "made1" / "published" / "model").values()
    )
    assert unseen["warnings"] == ["one (models:/merged/1): whether its tensors fit is known once it is fetched"]
    assert not list(home.rglob("*.safetensors"))
    assert said.code == 3
    assert "has hidden_size 64 in its config.json, the base 32" in said.text


def test_a_larger_model_takes_as_much_longer_as_it_has_more_parameters(tmp_path: Path) -> None:
    small, large = (toy_checkpoint(tmp_path / f"{n}", {NORM: torch.zeros(n)}) for n in (100, 300))
    with RunFolder(tmp_path / "runs", {"config": "c"}, now="now") as run:
        for number in range(4):
            run.journal.append({"kind": "judgement", "key": f"{number}"})
        small.rename(run.path / "checkpoint")
        made = replace(example(), suite="mine", wall_seconds=50.0, seconds={"fetch": 10.0})
        summaries.write(made, run.report / "summary.json")
    # 40 s for 4 judgements of 100 parameters: 10 s each, 30 s of a model three times as large.
    assert costs.seconds(tmp_path, "mine", 7, open_checkpoint(large)) == pytest.approx(7 * 30)
    assert costs.seconds(tmp_path, "mine", 7, open_checkpoint(run.path / "checkpoint")) == pytest.approx(7 * 10)
    assert costs.seconds(tmp_path, "another", 7, open_checkpoint(large)) is None
