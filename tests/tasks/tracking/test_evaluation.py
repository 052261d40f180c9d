"""An evaluation in MLflow: a registered version's scores stand on its own page, and logging again changes nothing."""

import pytest

from doubles.local_mlflow import local_store, published
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.tasks.release import registry
from psomerge.tasks.report.leaderboard import leaderboard
from psomerge.tasks.tracking import evaluation as track_evaluation
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.run import connect

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]

SCORES = [BenchmarkScore("pick", "so", "acc", 1.0, ("a", "b", "c", "d"), ("a", "b", "c", "d"), (1.0, 0.0, 1.0, 1.0))]


@pytest.mark.parametrize("address", ["models:/merged/1", "/models/base"])
def test_scores_of_a_registered_version_are_logged_against_its_model_once(tmp_path, address):
    store, model = local_store(tmp_path), published(tmp_path / "model")
    run = track.start(store, "merges", run_key="0123456789abcdef", name="n")
    model_id = registry.upload(run, model, run_key="0123456789abcdef", name="merged")
    registry.register(run, "merged", run_key="0123456789abcdef", model_id=model_id, tags={}, description="")
    line = leaderboard("made", {"m": SCORES}, fitness={"m": 0.75}, resamples=100).lines[0]
    record = track_evaluation.Record(address, "made", "test", "0" * 64, "1" * 64, line, {"suite": "made"})
    (tmp_path / "items.parquet").write_bytes(b"items")
    for _ in range(2):
        run_id = track_evaluation.log(
            store,
            "evaluations",
            record,
            run_key="fedcba9876543210",
            items=tmp_path / "items.parquet",
            rows=[{"model": "m", "value": 1.0}],
        )
    with connect(store) as client:
        assert client.get_run(run_id).data.metrics["score/pick"] == 0.75
        assert len(client.get_metric_history(run_id, "score/pick")) == 1
        logged = client.get_logged_model(model_id).metrics or []
    assert {one.key: one.value for one in logged} == (
        track_evaluation.metrics(line) if address.startswith("models:/") else {}
    )
