"""One whole run with the real engine, Prefect and MLflow on tiny models, as a user starts it; then what it left, read
back through each one's own interface."""

import hashlib
import json
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from doubles.hub_server import Request, serving
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store
from runs.small_run import Small, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]

RESULT_KEYS = {"run", "recipe", "checkpoint", "model_uri", "version", "alias", "promoted", "tracking_uri", "scores"}
"""That DESIGN promises of a run's JSON object."""
LABELS = {"base", "expert expert1", "expert expert2", "plain average", "PSO, star swarm", "PSO, paper swarm"}
PARTICLES = 5  # 2n + 1 of two experts
STEPS = 2


@dataclass(frozen=True)
class Done:
    """A finished run: the process, its JSON object, and where it lies."""

    small: Small
    process: subprocess.CompletedProcess[str]
    requests: list[Request]
    """What its processes asked the hub."""

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.process.stdout)

    @property
    def folder(self) -> Path:
        return self.small.home / "runs" / self.result["run"]

    @property
    def store(self) -> Store:
        return Store(f"sqlite:///{self.small.home / 'mlflow.db'}", self.small.home / "artifacts")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    compare = {"baselines": ["average"], "swarms": ["paper"]}
    small = small_run(
        tmp_path_factory.mktemp("flow"),
        engine="vllm",
        compare=compare,
        swarm={"initial": "star", "steps": STEPS, "grouping": "layers"},
    )
    with serving() as hub:
        process = small.psomerge("run", str(small.config), "--json", HF_ENDPOINT=hub.address)
    assert process.returncode == 0, process.stderr[-4000:]
    return Done(small, process, hub.requests)


def test_a_run_on_local_models_asks_the_hub_nothing(done: Done) -> None:
    assert done.requests == []


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*")) if path.is_file()
    }


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def tracked(done: Done) -> Any:
    """The one MLflow run of the pipeline run."""
    with connect(done.store) as client:
        experiment = client.get_experiment_by_name("small tests")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        return run


def downloaded(done: Done, uri: str, place: Path) -> Path:
    import mlflow

    with connect(done.store):
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(place), tracking_uri=done.store.tracking_uri))


def query(done: Done, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(done.small.home / "prefect" / "prefect.db")) as connection:
        return connection.execute(text).fetchall()


def test_stdout_is_one_json_object_with_the_promised_keys(done: Done) -> None:
    assert set(done.result) >= RESULT_KEYS
    assert set(done.result["scores"]) == LABELS
    assert (done.result["version"], done.result["model_uri"]) == ("1", "models:/small-model/1")


def test_the_files_that_the_result_names_exist(done: Done) -> None:
    named = {key: Path(done.result[key]) for key in ("recipe", "checkpoint", "report", "summary")}
    assert {key: path.exists() for key, path in named.items()} == dict.fromkeys(named, True)
    assert named["report"].read_text().lstrip().lower().startswith("<!doctype html")
    assert {row["label"] for row in json.loads(named["summary"].read_text())["rows"]} == LABELS


def test_progress_goes_to_stderr_without_a_traceback_or_a_library_s_chatter(done: Done) -> None:
    said = done.process.stderr
    reached = r"(best 0\.\d{4}, mean 0\.\d{4}, worst 0\.\d{4}|no particle above its own best)"
    assert re.search(rf"^star step 2: {reached}, failed 0, stopped \d, best ever 0\.\d{{4}}$", said, re.MULTILINE)
    assert "100%" in said
    assert not re.search(r"Traceback|Warning|Exception", said), said


def test_every_particle_was_judged_once_and_the_bound_of_the_method_holds(done: Done) -> None:
    entries = [entry for entry in journal(done.folder) if entry["kind"] == "judgement"]
    keys = [entry["key"] for entry in entries]
    assert len(keys) == len(set(keys))
    star = [entry for entry in entries if entry["phase"] == "star"]
    # The first particle that stays where it is, the global best at rest, is not judged again.
    assert PARTICLES < len(star) <= STEPS * PARTICLES
    assert all(entry["failure"] is None for entry in entries)


def test_the_result_is_the_best_of_the_searched_models_that_were_ranked_again(done: Done) -> None:
    candidates = json.loads((done.folder / "report" / "summary.json").read_text())["candidates"]
    (chosen,) = [one for one in candidates if one["chosen"]]
    assert chosen["ranked"] == max(one["ranked"] for one in candidates)
    recipe = json.loads(Path(done.result["recipe"]).read_text())
    judged = {json.dumps(entry["coefficients"]) for entry in journal(done.folder) if entry.get("phase") == "star"}
    assert json.dumps(recipe["coefficients"]) in judged
    assert len(recipe["coefficients"]) > 1  # a row for each group of layers


def test_materialize_rebuilds_the_checkpoint_from_the_recipe_bit_for_bit(done: Done, tmp_path: Path) -> None:
    rebuilt = done.small.psomerge("materialize", done.result["recipe"], "--out", str(tmp_path / "rebuilt"))
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert digests(tmp_path / "rebuilt") == digests(Path(done.result["checkpoint"]))


def test_the_registered_weights_are_the_written_ones_and_the_manifest_holds(done: Done, tmp_path: Path) -> None:
    copy = downloaded(done, done.result["model_uri"], tmp_path)
    written = {
        name: digest
        for name, digest in digests(Path(done.result["checkpoint"])).items()
        if name.endswith(".safetensors")
    }
    assert written
    assert {name: digests(copy / "model").get(name) for name in written} == written
    files = json.loads((copy / "MANIFEST.json").read_text())["files"]
    assert {name: hashlib.sha256((copy / name).read_bytes()).hexdigest() for name in files} == files
    assert (
        json.loads((copy / "recipe.json").read_text())["coefficients"]
        == json.loads(Path(done.result["recipe"]).read_text())["coefficients"]
    )


def test_one_version_is_registered_verified_and_bears_the_alias_of_the_result(done: Done) -> None:
    with connect(done.store) as client:
        (version,) = client.search_model_versions("name = 'small-model'")
        aliases = client.get_registered_model("small-model").aliases
    assert version.tags["psomerge.run_key"] == done.result["run"]
    assert version.tags["verification"] == "passed"
    assert {alias: str(number) for alias, number in aliases.items()} == {"challenger": "1"} | (
        {"champion": "1"} if done.result["promoted"] else {}
    )
    assert done.result["alias"] == ("champion" if done.result["promoted"] else "challenger")
    assert done.result["promoted"] or done.result["reason"]


def test_the_mlflow_run_says_what_went_in(done: Done) -> None:
    run = tracked(done)
    assert run.info.status == "FINISHED"
    assert run.data.params["swarm.steps"] == str(STEPS)
    assert {"digest.base", "digest.expert1", "digest.expert2"} <= set(run.data.params)
    sets = {one.dataset.name: one.dataset for one in run.inputs.dataset_inputs}
    assert set(sets) == {"small/optimisation", "small/validation", "small/test"}
    assert json.loads(sets["small/test"].profile)["num_rows"] == 36  # three benchmarks, limited to 12 test items each


def test_the_mlflow_metrics_are_those_of_every_step(done: Done) -> None:
    run = tracked(done)
    star = [entry for entry in journal(done.folder) if entry.get("phase") == "star"]
    with connect(done.store) as client:
        history = {
            key: {one.step: one.value for one in client.get_metric_history(run.info.run_id, key)}
            for key in run.data.metrics
        }
    first = [entry["fitness"] for entry in star if entry["step"] == 0]
    assert history["fitness/best"][0] == max(first)
    assert history["fitness/worst"][0] == min(first)
    assert history["fitness/mean"][0] == pytest.approx(sum(first) / len(first))
    assert set(history["stopped"]) == set(range(STEPS)) >= set(history["fitness/best"])
    assert history["fitness/global_best"][STEPS - 1] == max(
        entry["fitness"] for entry in star if entry["fitness"] is not None
    )
    assert history["stopped"][STEPS - 1] >= sum(entry["bound"] is not None for entry in star)
    assert {"language/so", "language/eu", "language/en", "score/kind-en/en"} <= set(history)


def test_the_mlflow_run_holds_particles_figures_recipe_and_report(done: Done, tmp_path: Path) -> None:
    copy = downloaded(done, f"runs:/{tracked(done).info.run_id}/", tmp_path)
    assert {"config.json", "particles.json", "recipe.json"} <= {path.name for path in copy.iterdir()}
    assert list(copy.glob("*.html"))
    assert {"fitness.png", "coefficients.png", "languages.png"} <= {path.name for path in (copy / "figures").iterdir()}
    table = json.loads((copy / "particles.json").read_text())
    assert len(table["data"]) == 2 * STEPS * PARTICLES  # of both swarms
    assert {"step", "particle", "coefficients", "fitness", "stopped_at", "failure"} <= set(table["columns"])


def test_every_test_score_can_be_traced_to_its_items(done: Done, tmp_path: Path) -> None:
    import pandas

    copy = downloaded(done, f"runs:/{tracked(done).info.run_id}/", tmp_path)
    items = pandas.read_parquet(copy / "items-test.parquet")
    summary = json.loads((Path(done.result["report"]).parent / "summary.json").read_text())
    means = {
        (row["label"], name): estimate["mean"]
        for row in summary["rows"]
        for name, estimate in row["benchmarks"].items()
    }
    found = items.groupby(["model", "benchmark"])["value"].mean().to_dict()
    assert found.keys() == means.keys()
    assert found == pytest.approx(means)
    shown = json.loads((copy / "items-test.json").read_text())
    assert len(shown["data"]) == min(1000, len(items))
    assert {"prompt", "choices", "logprobs", "extracted", "reference", "value"} <= set(shown["columns"])


def test_prefect_shows_every_step_by_name_with_its_time(done: Done) -> None:
    assert query(done, "select state_name from flow_run") == [("Completed",)]
    tasks = query(done, "select name, state_name, start_time, end_time from task_run order by start_time")
    assert {state for _, state, _, _ in tasks} == {"Completed"}
    assert all(begin and end and begin <= end for _, _, begin, end in tasks)
    order = ["fetch base", "check", "build requests", "sparsify"]
    order += [
        "star step 1: judge",
        "star step 1: observe",
        "star step 1: move",
        "star step 2: judge",
        "star step 2: observe",
    ]
    order += ["paper step 1: judge", "re-rank star", "write", "test", "register", "verify", "promote", "report"]
    names = [name for name, *_ in tasks]
    assert [name for name in names if name in order] == order
    assert f"star step {STEPS}: move" not in names  # no move after the last observe


def test_prefect_has_a_progress_artifact_and_a_table_for_every_step(done: Done) -> None:
    found = {key: (kind, data) for key, kind, data in query(done, "select key, type, data from artifact")}
    assert [float(str(data).strip('"')) for kind, data in found.values() if kind == "progress"] == [100.0]
    tables = {key for key, (kind, _) in found.items() if kind == "table"}
    assert {f"{swarm}-step-{step}" for swarm in ("star", "paper") for step in (1, 2)} | {"sparsified"} <= tables


def test_the_home_holds_everything_and_the_working_folder_nothing_new(done: Done) -> None:
    made = {path.name for path in done.small.folder.iterdir()}
    assert made <= {"base", "expert1", "expert2", "suite.yaml", "small.yaml", "home", ".cache", ".config"}, made
    assert not [path for path in done.folder.iterdir() if path.suffix in (".tmp", ".part")]
    assert list((done.folder / "engine").glob("engine-*")) == []
    assert not (done.folder / "verify").exists() or list((done.folder / "verify").iterdir()) == []


def test_the_same_command_again_judges_and_registers_nothing_and_prints_the_same(done: Done) -> None:
    before = {name: (done.folder / name).read_bytes() for name in ("journal.jsonl", "engine.log", "result.json")}
    begin = monotonic()
    assert done.small.run() == done.result
    assert monotonic() - begin < 150  # about 8 s on idle cores, several times that beside others
    assert {name: (done.folder / name).read_bytes() for name in before} == before
    with connect(done.store) as client:
        assert len(client.search_model_versions("name = 'small-model'")) == 1
    assert [path.name for path in done.small.runs] == [done.result["run"]]


def test_without_json_a_finished_run_prints_its_table_and_what_to_do_next(done: Done) -> None:
    shown = done.small.psomerge("run", str(done.small.config))
    assert shown.returncode == 0, shown.stderr
    for text in (*LABELS, "test items", "What to do next", "psomerge ui", "vllm"):
        assert text in shown.stdout
    assert max(len(line) for line in shown.stdout.split("What to do next")[0].splitlines()) <= 100


def test_the_plan_of_a_suite_that_has_run_tells_how_long_it_takes(done: Done) -> None:
    plan = json.loads(done.small.psomerge("plan", str(done.small.config), "--json").stdout)
    summary = json.loads(Path(done.result["summary"]).read_text())
    made = sum(entry["kind"] == "judgement" for entry in journal(done.folder))
    assert plan["seconds"] == pytest.approx(
        (summary["wall_seconds"] - summary["seconds"]["fetch"]) / made * plan["judgements"]
    )
    assert "time: about " in done.small.psomerge("plan", str(done.small.config)).stdout


def test_the_report_is_made_again_by_the_key_s_beginning(done: Done) -> None:
    page = Path(done.result["report"])
    before = page.read_bytes()
    page.unlink()
    again = done.small.psomerge("report", done.result["run"][:6])
    assert (again.returncode, again.stdout.strip()) == (0, str(page)), again.stderr
    assert page.read_bytes() == before


def test_check_finds_the_published_checkpoint_sound_and_a_changed_one_not(done: Done) -> None:
    published = done.folder / "published"
    assert done.small.psomerge("check", str(published), "--base", str(done.small.folder / "base")).returncode == 0
    card = published / "README.md"
    before = card.read_bytes()
    try:
        card.write_bytes(before + b"\n")
        changed = done.small.psomerge("check", str(published))
    finally:
        card.write_bytes(before)
    assert changed.returncode == 9
    assert "README.md" in changed.stderr
