"""`psomerge evaluate` and `psomerge compare` as a user runs them: scores, what they come from, MLflow, and an
evaluation that is killed."""

import json
import time
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from psomerge.tasks.search import items as traces
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store
from runs.small_run import SUITE, Small, kill_all, small_run
from runs.watched_run import lines

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

ENGINE = ("--set", "engine.kind=transformers", "--json")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return small_run(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def evaluated(small) -> dict:
    done = small.psomerge("evaluate", str(small.folder / "expert1"), "--suite", "suite.yaml", *ENGINE)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_score_is_the_mean_of_the_items_that_it_is_said_to_come_from(small, evaluated):
    (line,) = evaluated["leaderboard"]["lines"]
    items = pandas_of(evaluated["items"])
    assert set(items["benchmark"]) == {"pick-so", "pick-eu", "kind-en"} == set(line["benchmarks"])
    for name, rows in items.groupby("benchmark"):
        assert line["benchmarks"][name]["mean"] == pytest.approx(rows["value"].mean())
        assert line["benchmarks"][name]["n"] == len(rows) == 12
        # A choice is right where the likeliest continuation is the reference: the metric from what the rows tell alone.
        chosen = [
            choices[logprobs.argmax()] for choices, logprobs in zip(rows["choices"], rows["logprobs"], strict=True)
        ]
        assert chosen == list(rows["extracted"])
        assert [float(a == b) for a, b in zip(chosen, rows["reference"], strict=True)] == list(rows["value"])
    assert evaluated["fitness"] == pytest.approx(fmean(one["mean"] for one in line["benchmarks"].values()))
    assert 0 < len(set(items["group"])) <= len(items)
    assert all(rows.startswith("Q: ") or " in " in rows for rows in items["prompt"])


def pandas_of(path: str):
    import pandas

    return pandas.read_parquet(path)


def test_mlflow_shows_scores_bounds_and_items(small, evaluated):
    with connect(Store(f"sqlite:///{small.home}/mlflow.db")) as client:
        run = client.get_run(evaluated["mlflow_run"])
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
    (line,) = evaluated["leaderboard"]["lines"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["score/kind-en"] == line["benchmarks"]["kind-en"]["mean"]
    assert run.data.metrics["language/eu/low"] == line["languages"]["eu"]["low"]
    assert run.data.metrics["score/pick-so/n"] == 12
    assert run.data.tags["psomerge.suite"] == "small"
    assert {"items.json", "items.parquet", "config.json"} <= files
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "items.json", "type": "table"}]


def test_a_finished_evaluation_is_read_and_not_made_again(small, evaluated):
    folder = small.home / "evaluations" / evaluated["run"]
    before = (folder / "journal.jsonl").read_bytes()
    done = small.psomerge("evaluate", str(small.folder / "expert1"), "--suite", "suite.yaml", *ENGINE)
    assert json.loads(done.stdout) == evaluated
    assert "this evaluation is finished" in done.stderr
    assert (folder / "journal.jsonl").read_bytes() == before


def test_a_comparison_judges_only_what_is_new_and_shows_items_that_differ(small, evaluated):
    models = [str(small.folder / name) for name in ("base", "expert1", "expert2")]
    done = small.psomerge("compare", *models, "--suite", "suite.yaml", "--items", "3", *ENGINE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("building requests: ") == 1  # the three have one tokenizer
    found = json.loads(done.stdout)
    assert {line["label"] for line in found["lines"]} == {"base", "expert1", "expert2"}
    assert [line["fitness"] for line in found["lines"]] == sorted(
        (line["fitness"] for line in found["lines"]), reverse=True
    )
    ours = next(line for line in found["lines"] if line["label"] == "expert1")
    assert ours["benchmarks"] == evaluated["leaderboard"]["lines"][0]["benchmarks"]
    assert len(list((small.home / "evaluations").glob("*/result.json"))) == 3
    for one in found["items"]:
        first, second = one["answers"].values()
        assert first["value"] != second["value"]
        assert (first["extracted"] == one["reference"]) == (first["value"] == 1)
    assert 0 < len(found["items"]) <= 3
    assert Path(found["figure"]).read_bytes().startswith(b"\x89PNG")


def test_a_recipe_is_evaluated_without_a_checkpoint_of_its_model(small, evaluated):
    import psomerge.recipe as recipes
    from psomerge.checkpoint.pins import pin
    from psomerge.recipe import Recipe

    base, expert = (pin(small.folder / name, name, str(small.folder / name)) for name in ("base", "expert1"))
    recipes.write(Recipe(base, (expert,), coefficients=((1.0,),)), small.folder / "unit.json")
    done = small.psomerge("evaluate", "unit.json", "--suite", "suite.yaml", *ENGINE)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    # Base + 1 * (expert - base): the expert's own tensors, but for a rounding of the difference.
    assert [r["extracted"] for _, r in pandas_of(found["items"]).iterrows()] == [
        r["extracted"] for _, r in pandas_of(evaluated["items"]).iterrows()
    ]
    broken = small.psomerge("evaluate", "missing.json", "--suite", "suite.yaml")
    assert broken.returncode == 3
    assert len(broken.stderr.strip().splitlines()) == 1


def test_a_killed_evaluation_goes_on_after_the_parts_that_were_judged(small):
    long = SUITE | {"name": "long", "limits": {}}
    (small.folder / "long.yaml").write_text(yaml.safe_dump(long, sort_keys=False))
    command = ("evaluate", str(small.folder / "base"), "--suite", "long.yaml", *ENGINE)
    process = small.start(*command)
    known = set((small.home / "evaluations").glob("*"))
    end, fresh = time.monotonic() + 240, set()
    while not any(lines(folder) for folder in fresh) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
        fresh = set((small.home / "evaluations").glob("*")) - known
    assert process.poll() is None, process.communicate()
    kill_all(process.pid)
    process.communicate()
    (folder,) = fresh
    before = (folder / "journal.jsonl").read_bytes()
    assert not (folder / "result.json").exists()
    done = small.psomerge(*command)
    assert done.returncode == 0, done.stderr[-3000:]
    after = (folder / "journal.jsonl").read_bytes()
    assert after.startswith(before)
    entries = [json.loads(line) for line in after.splitlines()]
    assert len(entries) == 2 == len({entry["key"] for entry in entries})
    found = json.loads(done.stdout)
    rows = [example for entry in entries for example in traces.read(traces.path_of(folder, entry["key"]))]
    assert (
        len(rows)
        == sum(one["n"] for one in found["leaderboard"]["lines"][0]["benchmarks"].values())
        == len(pandas_of(found["items"]))
    )


def test_all_models_that_are_not_there_are_told_before_one_is_judged(small):
    known = {path.name for path in (small.home / "evaluations").glob("*")}
    done = small.psomerge("compare", "base", "nowhere", "models:/none@champion", "--suite", "suite.yaml")
    assert done.returncode == 3
    assert "nowhere: expected a checkpoint folder, found nothing there; check the path" in done.stderr
    assert "models:/none@champion: the registry at" in done.stderr
    assert {path.name for path in (small.home / "evaluations").glob("*")} == known


def test_what_cannot_be_evaluated_is_told_in_a_line(small):
    for arguments, text, code in (
        (("evaluate", "base", "--suite", "quickstrat"), "unknown suite 'quickstrat'; did you mean quickstart?", 2),
        (("evaluate", "base", "--suite", "suite.yaml", "--set", "splt=test"), "did you mean split?", 2),
        (("evaluate", "nowhere", "--suite", "suite.yaml"), "found nothing there; check the path", 3),
        (("compare", "base", "base", "--suite", "suite.yaml"), "expected two or more models to compare, found 1", 2),
    ):
        done = small.psomerge(*arguments)
        assert done.returncode == code, done.stderr
        assert text in done.stderr
        assert len([line for line in done.stderr.splitlines() if line.startswith("psomerge: ")]) == 1
        assert "Traceback" not in done.stderr
