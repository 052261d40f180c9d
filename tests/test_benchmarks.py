"""The benchmarks run, on tiny models; no time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT

pytestmark = pytest.mark.heavy


def benchmark(*words: str, scratch: Path) -> dict:
    command = [sys.executable, "-m", "benchmarks", *words, "--json", "--small", "--scratch", str(scratch)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_merge_pass_is_set_beside_a_copy_and_says_on_which_machine(tmp_path: Path) -> None:
    report = benchmark("merge_pass", "--eager-only", "--threads", "1", "--rounds", "2", scratch=tmp_path)
    assert {"eager, experts only, 1 thread", "eager, with DARE copies, 1 thread"} <= set(report["merge_pass"])
    assert all(figures["share_of_copy"] > 0 for figures in report["merge_pass"].values())
    assert report["machine"]["cores"] > 0
    assert "torch" in report["versions"]


def test_the_merge_command_is_timed_as_a_user_starts_it(tmp_path: Path) -> None:
    report = benchmark("merge_command", "--methods", "linear", "--repeats", "1", scratch=tmp_path)
    assert report["merge_command"]["linear"]["seconds"] > 0
    assert (tmp_path / "merged" / "recipe.json").is_file()


def test_memory_is_told_for_every_number_of_experts_and_recipes(tmp_path: Path) -> None:
    report = benchmark("memory", "--experts", "2", "--recipes", "1", "3", scratch=tmp_path)
    assert set(report["memory"]) == {"2 experts, 1 recipes", "2 experts, 3 recipes"}
    assert all(figures["limit_models"] == 4 for figures in report["memory"].values())


def test_turnaround_adds_up_the_phases_of_the_search_and_spreads_bookkeeping_over_all_judgements(
    tmp_path: Path,
) -> None:
    from psomerge.files.durable import seal, to_bytes

    seconds = {"merge": 0.01, "load": 0.02, "reset": 0.0, "canary": 0.01, "score": 1.0}
    previous, journal = "0123456789abcdef", b""
    for phase in ("star", "paper", "test"):
        entry = seal(
            {
                "kind": "judgement",
                "phase": phase,
                "failure": None,
                "seconds": seconds if phase != "test" else seconds | {"load": 9.0},
                "previous": previous,
            }
        )
        journal, previous = journal + to_bytes(entry), entry["sha256"]
    (tmp_path / "report").mkdir()
    (tmp_path / "run.json").write_bytes(to_bytes(seal({"key": "0123456789abcdef"}), indent=2))
    (tmp_path / "journal.jsonl").write_bytes(journal)
    (tmp_path / "report" / "summary.json").write_text(json.dumps({"seconds": {"bookkeeping": 0.3}}))
    found = benchmark("turnaround", "--run", str(tmp_path), scratch=tmp_path)["turnaround"]
    # (0.01 + 0.02 + 0.01) / 1 over the two searches; 0.3 s over three judgements.
    assert found["beyond_scoring_share"] == pytest.approx(0.04)
    assert found["bookkeeping_ms_a_judgement"] == pytest.approx(100)
    assert found["judgements_of_the_search"] == 2


def study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import search_study

    return search_study


def test_the_study_pairs_methods_with_the_star_swarm_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module = study(monkeypatch)
    stored = [
        {"PSO, star swarm": 0.6, "TIES (density 0.5, scale 1)": 0.5, "expert so": 0.4, "expert tk": 0.3},
        {"PSO, star swarm": 0.5, "TIES (density 0.2, scale 1)": 0.6, "expert so": 0.2, "expert tk": 0.4},
        {"PSO, star swarm": 0.7, "TIES (density 0.2, scale 1)": 0.4, "expert so": 0.4, "expert tk": 0.4},
    ]
    results = [
        module.test_means({"scores": {label: {"mean": value} for label, value in one.items()}}) for one in stored
    ]
    rows = module.table(results)
    assert rows["best expert"]["mean"] == pytest.approx(0.4)
    # Differences -0.1, 0.1, -0.3: mean -0.1, standard deviation 0.2, error 0.2 / sqrt(3).
    assert rows["TIES"] == pytest.approx(
        {"mean": 0.5, "minus_star": -0.1, "standard_error": 0.2 / 3**0.5, "wins_against_star": 1, "ties_with_star": 0}
    )
    assert next(iter(rows)) == "PSO, star swarm"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_studys_configs_are_sound_and_name_n_experts_of_one_seed(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from psomerge.evals.suites.file import load_suite
    from psomerge.flows.config.loading import load_config

    config = load_config(str(study(monkeypatch).write_config(tmp_path, n, expert_seed=2, search_seed=1)))
    assert len(config.experts) == n
    assert {source.rpartition("@")[2] for source in (config.base, *config.experts.values())} == {"2"}
    assert config.seed == 1
    suite = load_suite(config.suite)
    assert {benchmark.language for benchmark in suite.benchmarks} == {"en", *config.experts} - {"skill"}


def test_a_download_is_set_beside_the_stock_client(tmp_path: Path) -> None:
    figures = benchmark("download", "--rounds", "1", scratch=tmp_path)["download"]["1 MB in 4 shards"]
    assert figures["over_stock"] == pytest.approx(figures["seconds"] / figures["stock_seconds"])
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir()) == ["model"]
