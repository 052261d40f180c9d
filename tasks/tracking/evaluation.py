"""One MLflow run per evaluation: settings, the score of every benchmark and language, and the items that they come
from."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psomerge.tasks.report.leaderboard import Line
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.run import EvaluationInput, connect
from psomerge.tasks.tracking.store import MODEL_SCHEME, Store, check_name


@dataclass(frozen=True)
class Record:
    """An evaluation as MLflow shows it."""

    model: str
    """Address, with the version or commit."""
    suite: str
    split: str
    digest: str
    """Of the evaluation set."""
    recipe: str
    """Digest of the model's recipe."""
    line: Line
    config: Mapping[str, Any]


def log(
    store: Store, experiment: str, record: Record, *, run_key: str, items: Path, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Returns the id of the MLflow run of an evaluation, written whole; logging it again changes nothing.

    A registered version's metrics are logged against its logged model, so that MLflow shows them on the model's page
    too.

    Args:
        store: of MLflow.
        experiment: its name.
        record: what was found.
        run_key: of the evaluation.
        items: Parquet file of all items.
        rows: the first of them, for a table that MLflow's page shows.
    """
    tags = {"psomerge.model": record.model, "psomerge.suite": record.suite, "psomerge.split": record.split}
    name, _, version = (
        record.model.removeprefix(MODEL_SCHEME).partition("/")
        if record.model.startswith(MODEL_SCHEME)
        else ("", "", "")
    )
    if version:
        tags |= {"psomerge.model_name": name, "psomerge.model_version": version}
    run = track.start(store, experiment, run_key=run_key, name=f"{record.suite}-{run_key[:8]}", tags=tags)
    every = sum(estimate.n for estimate in record.line.benchmarks.values())
    given = [EvaluationInput(record.suite, record.split, record.digest, every)]
    track.log_setup(run, record.config, digests={"recipe": record.recipe}, sets=given)
    _log_metrics(run, metrics(record.line), model_id=_model_id(store, name, version) if version else None)
    track.log_table(run, "items", rows)
    track.log_file(run, items)
    track.finish(run, "FINISHED")
    return run.run_id


def metrics(line: Line) -> dict[str, float]:
    """Returns by MLflow metric name: fitness; mean and each benchmark's and language's score, with the bounds of their
    95 % intervals and n."""
    estimates = {"mean": line.mean}
    estimates |= {f"score/{name}": one for name, one in line.benchmarks.items()} | {
        f"language/{name}": one for name, one in line.languages.items()
    }
    found = {"fitness": line.fitness}
    for name, one in estimates.items():
        found |= {name: one.mean, f"{name}/low": one.low, f"{name}/high": one.high, f"{name}/n": float(one.n)}
    return found


def _model_id(store: Store, name: str, version: str) -> str | None:
    """The id (`m-...`) of the logged model behind a version, None where it has none or where it is kept elsewhere than
    runs are. MLflow's SQL store tells it in the version's source alone."""
    from mlflow.exceptions import MlflowException

    with connect(store) as client:
        found = client.get_model_version(name, version)
        source = (found.source or "").removeprefix(MODEL_SCHEME)
        identity = found.model_id or (source if source.startswith("m-") else None)
        if identity and store.is_divided:
            try:
                client.get_logged_model(identity)
            except MlflowException:
                return None
    return identity


def _log_metrics(run: track.MlflowRun, values: Mapping[str, float], *, model_id: str | None) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    entries = [
        Metric(check_name(name, "metric"), value, now, 0, model_id=model_id, run_id=run.run_id)
        for name, value in values.items()
    ]
    with connect(run.store) as client:
        if "fitness" in client.get_run(run.run_id).data.metrics:
            return  # an evaluation that was killed here: MLflow would keep both
        for first in range(0, len(entries), 1000):
            client.log_batch(run.run_id, metrics=entries[first : first + 1000])
