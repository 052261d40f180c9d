"""What a pipeline run leaves in MLflow, read back through MLflow's own interface."""

import json
import socket
import time
from pathlib import Path

import pytest

from doubles.local_mlflow import local_store
from psomerge.errors import ConfigError, ServiceError, SpaceError
from psomerge.evals.suites.scores import BenchmarkScore, Judgement
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.run import EvaluationInput
from psomerge.tasks.tracking.store import Store

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
KEY = "a" * 64


def start(store, key=KEY):
    return track.start(store, "merges", run_key=key, name="quickstart")


def score(language, *values):
    names = tuple(str(n) for n in range(len(values)))
    return BenchmarkScore("weekdays", language, "acc", 1.0, names, names, values)


def history(run, metric):
    with track.connect(run.store) as client:
        return [(one.step, one.value) for one in client.get_metric_history(run.run_id, metric)]


def data(run):
    with track.connect(run.store) as client:
        return client.get_run(run.run_id)


def test_a_resumed_run_key_finds_its_run_again_and_sets_it_running(tmp_path):
    store = local_store(tmp_path)
    first = start(store)
    track.finish(first, "KILLED")
    again = start(store)
    other = start(store, "b" * 64)
    assert again.run_id == first.run_id != other.run_id
    assert data(again).info.status == "RUNNING"


def test_best_mean_and_worst_leave_failed_judgements_out(tmp_path):
    run = start(local_store(tmp_path))
    judgements = [
        Judgement(0.5, (score("de", 1.0, 0.0),)),
        Judgement(None, failure="NaN"),
        Judgement(0.75, (score("de", 1.0, 1.0), score("sw", 0.5, 0.5))),
    ]
    track.log_step(run, 3, judgements, global_best=0.8)
    # by hand: (0.5 + 0.75) / 2 = 0.625; the best particle's German is 1, its Swahili 0.5
    expected = {
        "fitness/best": 0.75,
        "fitness/mean": 0.625,
        "fitness/worst": 0.5,
        "fitness/global_best": 0.8,
        "failures": 1.0,
        "stopped": 0.0,
    }
    expected |= {"score/weekdays/de": 1.0, "score/weekdays/sw": 0.5, "language/de": 1.0, "language/sw": 0.5}
    assert data(run).data.metrics == expected
    assert history(run, "fitness/best") == [(3, 0.75)]


def test_a_step_in_which_everything_failed_has_no_fitness(tmp_path):
    run = start(local_store(tmp_path))
    track.log_step(run, 0, [Judgement(None, failure="empty benchmark")], global_best=None)
    assert data(run).data.metrics == {"failures": 1.0, "stopped": 0.0}


def test_a_step_that_was_logged_before_the_crash_is_not_logged_again(tmp_path):
    store = local_store(tmp_path)
    for attempt in range(2):
        run = start(store)
        for step in range(2 + attempt):
            track.log_step(run, step, [Judgement(0.25)], global_best=0.25)
    assert history(run, "fitness/best") == [(0, 0.25), (1, 0.25), (2, 0.25)]


def test_logging_a_step_stays_below_thirty_milliseconds_a_judgement(tmp_path):
    run = start(local_store(tmp_path))
    scores = tuple(score(f"l{n}", 1.0) for n in range(20))
    track.log_step(run, 0, [Judgement(0.5, scores)] * 9, global_best=0.5)
    began = time.process_time()
    for step in range(1, 6):
        track.log_step(run, step, [Judgement(0.5, scores)] * 9, global_best=0.5)
    assert (time.process_time() - began) / (5 * 9) < 0.03


def test_setup_shows_config_digests_and_evaluation_sets_and_may_be_repeated(tmp_path):
    import mlflow

    store = local_store(tmp_path)
    run = start(store)
    config = {"swarm": {"steps": 5, "name": "star"}, "experts": ["a", "b"], "note": "x" * 7000}
    for _ in range(2):
        track.log_setup(
            run, config, digests={"base": "1" * 64}, sets=[EvaluationInput("cldr", "validation", "f" * 64, 120)]
        )
    found = data(run)
    assert found.data.params["swarm.steps"] == "5"
    assert found.data.params["experts"] == '["a", "b"]'
    assert found.data.params["digest.base"] == "1" * 64
    assert found.data.params["note"] == "7000 characters, see config.json"
    assert json.loads(mlflow.artifacts.load_text(f"runs:/{run.run_id}/config.json")) == config
    (one,) = found.inputs.dataset_inputs
    assert (one.dataset.name, one.dataset.digest, one.tags[0].value) == ("cldr/validation", "f" * 36, "validation")
    assert mlflow.data.get_source(one).to_dict() == {"tags": {"sha256": "f" * 64}}


def test_passwords_reach_neither_parameters_nor_config_nor_tags(tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("SOME_API_TOKEN", "hunter2hunter2")
    store = local_store(tmp_path)
    run = track.start(store, "merges", run_key=KEY, name="n", tags={"from": "https://me:pw@host/x"})
    track.log_setup(run, {"url": "postgresql://me:pw@host/db", "oops": "key hunter2hunter2"}, digests={}, sets=[])
    track.finish(run, "FAILED", tags={"reason": "hunter2hunter2 refused"})
    found = data(run)
    shown = json.dumps(
        [found.data.params, found.data.tags, mlflow.artifacts.load_text(f"runs:/{run.run_id}/config.json")]
    )
    assert "hunter2" not in shown
    assert "pw" not in shown
    assert found.data.params["url"] == "postgresql://***@host/db"


def test_the_particle_table_reads_back_and_a_resumed_run_replaces_it(tmp_path):
    run = start(local_store(tmp_path))
    rows = [{"step": 0, "particle": 1, "coefficients": [[0.5, 1.0]], "fitness": None, "failure": "NaN"}]
    track.log_table(run, "particles", rows)
    track.log_table(
        run,
        "particles",
        [*rows, {"step": 0, "particle": 2, "coefficients": [[0.1, 0.3]], "fitness": 0.5, "failure": None}],
    )
    with track.connect(run.store) as client:
        table = client.load_table(run.experiment_id, "particles.json", [run.run_id])
    assert list(table["particle"]) == [1, 2]
    with track.connect(run.store) as client:
        stored = json.loads(Path(client.download_artifacts(run.run_id, "particles.json", str(tmp_path))).read_text())
    assert stored["data"][1][2] == [[0.1, 0.3]]  # MLflow's reader rounds in the last digit, the file does not
    assert table["fitness"].isna().tolist() == [True, False]
    assert json.loads(data(run).data.tags["mlflow.loggedArtifacts"]) == [{"path": "particles.json", "type": "table"}]


def test_figures_and_files_are_artifacts_and_the_status_tells_how_it_ended(tmp_path):
    from matplotlib.figure import Figure

    run = start(local_store(tmp_path))
    figure = Figure()
    figure.subplots().plot([0, 1])
    track.log_figure(run, "fitness", figure)
    (tmp_path / "recipe.json").write_text("{}")
    track.log_file(run, tmp_path / "recipe.json")
    track.finish(run, "FINISHED", tags={"version": "3"})
    with track.connect(run.store) as client:
        assert [one.path for one in client.list_artifacts(run.run_id)] == ["figures", "recipe.json"]
        assert [one.path for one in client.list_artifacts(run.run_id, "figures")] == ["figures/fitness.png"]
    assert (data(run).info.status, data(run).data.tags["version"]) == ("FINISHED", "3")


@pytest.mark.parametrize("name", ["", "line\nbreak", "<script>", "x" * 201, "../up"])
def test_names_that_cannot_be_shown_or_lead_elsewhere_are_refused(tmp_path, name):
    run = start(local_store(tmp_path))
    with pytest.raises(ConfigError, match="rename it"):
        track.log_step(run, 0, [Judgement(0.5, (score(f"\n{name}", 1.0),))], global_best=None)
    with pytest.raises(ConfigError, match="rename it"):
        track.log_table(run, name, [])
    with pytest.raises(ConfigError, match="rename it"):
        track.start(run.store, name, run_key=KEY, name="n")


def test_a_dead_server_is_told_within_a_minute_by_address_and_without_the_password(monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        start(Store(f"http://me:pw@127.0.0.1:{port}"))
    assert time.monotonic() - began < 60
    assert f"http://***@127.0.0.1:{port}" in str(caught.value)
    assert "pw" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_that_cannot_be_written_is_no_service_error(tmp_path):
    run = start(local_store(tmp_path))
    blocked = tmp_path / "artifacts" / run.run_id
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the run's folder should be")
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(SpaceError, match="free space"):
        track.log_file(run, tmp_path / "recipe.json")
