"""The same run with early stopping and without, with the real engine: stopped exactly, what comes out is the same to
the last bit."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from runs.small_run import perturbed, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]


@dataclass(frozen=True)
class Ended:
    """A finished run: its result, its journal's judgements by key, the later of two, and its summary."""

    result: dict[str, Any]
    said: str
    lines: dict[str, dict[str, Any]]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    engine = {"kind": "vllm", "kv_cache_gib": 0.0625, "max_num_seqs": 4, "max_num_batched_tokens": 2048}
    small = small_run(tmp_path_factory.mktemp("stopping"), swarm={"initial": "star", "steps": 4})
    small.change(engine=engine)
    for number in (1, 2):
        shutil.rmtree(small.folder / f"expert{number}")
        perturbed(
            small.folder / "base", small.folder / f"expert{number}", number, size=0.3
        )  # far enough that particles differ
    suite = yaml.safe_load((small.folder / "suite.yaml").read_text())
    (small.folder / "suite.yaml").write_text(
        yaml.safe_dump(suite | {"limits": {"optimisation": 24, "validation": 6, "test": 12}}, sort_keys=False)
    )
    found = {}
    for stopping in ("off", "exact", "sequential"):
        process = small.psomerge("run", str(small.config), "--json", "--set", f"stopping={stopping}")
        assert process.returncode == 0, process.stderr[-4000:]
        result = json.loads(process.stdout)
        folder = small.home / "runs" / result["run"]
        lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        judged = {line["key"]: line for line in lines if line["kind"] == "judgement"}
        found[stopping] = Ended(
            result, process.stderr, judged, json.loads((folder / "report" / "summary.json").read_text())
        )
    return found


def stopped(ended: Ended) -> set[str]:
    return {key for key, line in ended.lines.items() if line["bound"] is not None}


def test_the_same_model_comes_out_with_the_same_scores(ended: dict[str, Ended]) -> None:
    off, exact = ended["off"].result, ended["exact"].result
    assert off["run"] != exact["run"]
    assert Path(off["recipe"]).read_bytes() == Path(exact["recipe"]).read_bytes()
    assert {name: off[name] for name in ("scores", "coefficients", "test")} == {
        name: exact[name] for name in ("scores", "coefficients", "test")
    }
    assert ended["off"].summary["candidates"] == ended["exact"].summary["candidates"]
    both = (ended["off"], ended["exact"])
    places = [
        [[particle["coefficients"] for particle in step["particles"]] for step in one.summary["history"]]
        for one in both
    ]
    assert places[0] == places[1]


def test_every_judgement_that_was_made_to_its_end_has_the_same_values(ended: dict[str, Ended]) -> None:
    off, exact = ended["off"].lines, ended["exact"].lines
    assert set(off) == set(exact)
    assert not stopped(ended["off"])
    assert all(
        (off[key]["values"], off[key]["fitness"]) == (exact[key]["values"], exact[key]["fitness"])
        for key in set(off) - stopped(ended["exact"])
    )


def test_some_were_stopped_and_none_of_them_could_have_won(ended: dict[str, Ended]) -> None:
    off, exact = ended["off"].lines, ended["exact"].lines
    assert stopped(ended["exact"])
    for key in stopped(ended["exact"]):
        line = exact[key]
        assert (line["fitness"], line["failure"], line["requests"]) == (
            None,
            None,
            288,
        )  # three benchmarks, 24 items, four choices
        assert off[key]["fitness"] <= line["bound"]
        assert line["answered"] < line["requests"]
        assert 0 < line["tokens"] < line["tokens_of"] == off[key]["tokens"]


def test_the_line_of_a_step_and_the_report_s_record_say_how_many(ended: dict[str, Ended]) -> None:
    count = sum(
        particle["bound"] is not None and particle["judged"]
        for step in ended["exact"].summary["history"]
        for particle in step["particles"]
    )
    assert count == len(stopped(ended["exact"]))
    assert "star step 2: " in ended["exact"].said
    assert ", stopped 0, best ever" in ended["off"].said


def test_a_sequential_test_gives_some_up_says_so_and_a_model_is_registered(ended: dict[str, Ended]) -> None:
    lines = ended["sequential"].lines
    given_up = [lines[key] for key in stopped(ended["sequential"]) if lines[key]["risk"]]
    assert given_up
    assert {line["risk"] for line in given_up} == {0.05}
    assert all(line["answered"] < line["requests"] and line["fitness"] is None for line in given_up)
    assert {ended["exact"].lines[key]["risk"] for key in stopped(ended["exact"])} == {0.0}
    assert ended["sequential"].result["version"] is not None


def test_the_first_step_of_every_kind_is_judged_to_its_end(ended: dict[str, Ended]) -> None:
    for one in ended.values():
        assert all(particle["bound"] is None for particle in one.summary["history"][0]["particles"])
