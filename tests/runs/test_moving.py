"""Aliases and branches that move while runs come and go, with the registry and a hub of their own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles.hub_server import Hub, serving
from doubles.local_mlflow import local_store
from doubles.stock_mlflow import logged
from psomerge.tasks.release.registry import give_alias
from runs.small_run import Small, kill_all, perturbed, small_run
from runs.watched_run import MOMENTS, PATIENCE, Running

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


def sources(result: dict[str, Any]) -> list[str]:
    return [one["source"] for one in json.loads(Path(result["recipe"]).read_text())["experts"]]


def test_an_unfinished_run_keeps_what_its_names_were_and_the_next_one_follows(hub: Hub, tmp_path: Path) -> None:
    small = small_run(tmp_path)
    small.home.mkdir()
    store = local_store(small.home)
    versions = [logged(store, str(perturbed(tmp_path / "base", tmp_path / f"v{n}", n)), "stock") for n in (5, 6)]
    give_alias(store, versions[0], "best")
    first = hub.push("org/one", tmp_path / "expert1")
    small.change(experts={"one": "hf://org/one", "two": "models:/stock@best"})
    environment = {"HF_ENDPOINT": hub.address}

    def start(small: Small) -> Running:
        return Running(small, **environment)

    running = start(small)
    running.wait_for(MOMENTS[2])
    kill_all(running.process.pid)
    running.ended(PATIENCE)
    second = hub.push("org/one", tmp_path / "expert2")
    give_alias(store, versions[1], "best")
    plan = json.loads(small.psomerge("plan", str(small.config), "--json", **environment).stdout)
    assert [plan["models"][name]["source"] for name in ("one", "two")] == [
        f"hf://org/one@{first}",
        "models:/stock/1",
    ]
    assert [line.partition(";")[0] for line in plan["moved"]] == [
        f"hf://org/one is hf://org/one@{second}",
        "models:/stock@best is models:/stock/2",
    ]
    code, out, said = start(small).ended(PATIENCE)
    assert code == 0, said[-3000:]
    result = json.loads(out)
    assert sources(result) == [f"hf://org/one@{first}", "models:/stock/1"]
    assert all(line in said for line in plan["moved"])
    assert len(small.runs) == 1
    code, out, said = start(small).ended(PATIENCE)
    assert code == 0, said[-3000:]
    anew = json.loads(out)
    assert sources(anew) == [f"hf://org/one@{second}", "models:/stock/2"]
    assert (anew["version"], len(small.runs)) == ("2", 2)
    code, out, said = start(small).ended(PATIENCE)
    assert code == 0, said[-3000:]
    assert json.loads(out) == anew
    assert "this run is finished" in said
