"""One MLflow run per pipeline run: what went in, what each step reached, what came out.

A run is found again by its run key, so that resuming continues it. The journal is the truth; this is its public view.
Registered models are in `tasks.release.registry`.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from psomerge.errors import ConfigError, ServiceError, SpaceError
from psomerge.evals.suites.scores import Judgement
from psomerge.tasks.secrets import redact
from psomerge.tasks.tracking.store import REGISTRY, RUN_KEY, SETTINGS, TRACKING, Store, check_name, environment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

PARAMETER_LIMIT = 6000
"""Characters. MLflow cuts longer values without a word."""
ATTEMPTS = 3
REFUSALS = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "UNAUTHENTICATED")
T = TypeVar("T")
_WITHOUT_REPEATS = threading.Lock()


@dataclass(frozen=True)
class MlflowRun:
    """One MLflow run that is being written."""

    store: Store
    run_id: str
    experiment_id: str
    steps: frozenset[int] = field(default_factory=frozenset)
    """Steps whose metrics an earlier process logged."""


@dataclass(frozen=True)
class EvaluationInput:
    """An evaluation set as MLflow shows it under a run's datasets."""

    suite: str
    split: str
    digest: str
    """SHA-256 in hex of the set."""
    items: int


@contextmanager
def connect(store: Store) -> Iterator["MlflowClient"]:
    """Yields a quiet client whose calls end within bounded time.

    Raises:
        ConfigError: no store can be at an address.
        ServiceError: MLflow does not answer or refuses.
        SpaceError: the local store cannot be written.
    """
    store.check()
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # it writes a traceback of each error that it raises
    before = os.environ.get(TRACKING)
    try:
        # The SQL store resolves `models:/m-...` through the process's address, not through the client's.
        mlflow.set_tracking_uri(store.tracking_uri)
        _restore(TRACKING, before)
        # Without one MLflow asks where the runs are, and writes the variable for its child processes otherwise.
        mlflow.set_registry_uri(store.registry_uri if store.is_divided else "")
        yield mlflow.MlflowClient(store.tracking_uri, store.registry_uri if store.is_divided else None)
    except (MlflowException, RequestException) as error:
        reason = redact(" ".join(str(error).split())[:300])
        places, names = store.address, TRACKING
        if store.is_divided:
            places, names = f"{places} with its registry at {store.registry}", f"{TRACKING} and {REGISTRY}"
        raise ServiceError(
            f"MLflow at {places}: {reason}; check that it runs and that {names} says so, then repeat the command"
        ) from error
    except OSError as error:
        raise SpaceError(
            f"{error.filename or store.artifacts}: cannot be written: {error.strerror or error}; free space or "
            "correct its rights"
        ) from error


def _restore(name: str, value: str | None) -> None:
    """MLflow writes its addresses into the environment, where child processes would take them for the user's."""
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value


def once(find: Callable[[], T | None], create: Callable[[], T]) -> T:
    """Returns what `find` finds, else what `create` makes, and has it made once although a response may get lost.

    MLflow's client repeats a request whose response it did not see, and the server then does it twice. So the client
    must not repeat here, and after each failure `find` looks whether the server had done it. Raises MlflowException
    after three failures.
    """
    from mlflow.exceptions import MlflowException

    failures: list[MlflowException] = []
    while (found := find()) is None:
        if len(failures) == ATTEMPTS:
            raise failures[-1]
        try:
            with _WITHOUT_REPEATS, environment(MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"):
                return create()
        except MlflowException as error:
            if error.error_code in REFUSALS:
                raise
            # A server that was only slow gets the time to finish before anyone looks.
            time.sleep(2 ** len(failures))
            failures.append(error)
    return found


def start(
    store: Store, experiment: str, *, run_key: str, name: str, tags: Mapping[str, str] | None = None
) -> MlflowRun:
    """Returns the run of `run_key`: a new one, or the one that an earlier process began, set to running again."""
    check_name(experiment, "experiment")
    check_name(name, "run name")
    every = {RUN_KEY: run_key} | {check_name(key, "tag"): redact(value) for key, value in (tags or {}).items()}
    with connect(store) as client:
        identity = _experiment(client, store, experiment)

        def find() -> str | None:
            runs = client.search_runs(
                [identity], f"tags.`{RUN_KEY}` = '{run_key}'", order_by=["attributes.start_time ASC"], max_results=1
            )
            return runs[0].info.run_id if runs else None

        run_id = once(find, lambda: client.create_run(identity, tags=every, run_name=name).info.run_id)
        client.update_run(run_id, status="RUNNING")
        steps = frozenset(metric.step for metric in client.get_metric_history(run_id, "failures"))
        return MlflowRun(store, run_id, identity, steps)


def _experiment(client: "MlflowClient", store: Store, name: str) -> str:
    def find() -> str | None:
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"experiment {name!r} is deleted in MLflow at {store.address}; restore it there or name another one"
            )
        return found and found.experiment_id

    location = store.artifacts.absolute().as_uri() if store.artifacts else None
    return once(find, lambda: client.create_experiment(name, artifact_location=location))


def log_setup(
    run: MlflowRun, config: Mapping[str, Any], *, digests: Mapping[str, str], sets: Sequence[EvaluationInput]
) -> None:
    """Logs what goes in: the config (whole as `config.json`, flat as parameters), digests by source name, evaluation
    sets as dataset inputs.

    Logging the same again changes nothing.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    text = redact(json.dumps(config, indent=2, sort_keys=True))
    values = dict(_flat("", json.loads(text))) | {f"digest.{name}": digest for name, digest in digests.items()}
    cut = {
        key: value if len(value) <= PARAMETER_LIMIT else f"{len(value)} characters, see config.json"
        for key, value in values.items()
    }
    parameters = [Param(check_name(key, "parameter"), value) for key, value in cut.items()]
    inputs = [
        DatasetInput(
            # The columns of MLflow's table hold 36 characters of a digest.
            Dataset(
                check_name(f"{one.suite}/{one.split}", "suite"),
                one.digest[:36],
                "code",
                json.dumps({"tags": {"sha256": one.digest}}),
                None,
                json.dumps({"num_rows": one.items}),
            ),
            [InputTag("mlflow.data.context", one.split)],
        )
        for one in sets
    ]
    with connect(run.store) as client:
        for first in range(0, len(parameters), 100):
            client.log_batch(run.run_id, params=parameters[first : first + 100])
        client.log_inputs(run.run_id, datasets=inputs)
        client.log_text(run.run_id, text, "config.json")


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def step_metrics(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Returns one step's metrics: fitness best, mean, worst; of the best particle each score and each language's mean;
    mean seconds by phase.

    A judgement that failed counts in `failures` and nowhere else, one that was stopped in `stopped`.
    """
    sound = [one for one in judgements if one.fitness is not None]
    stopped = sum(one.bound is not None for one in judgements)
    metrics: dict[str, float] = {"failures": float(len(judgements) - len(sound) - stopped), "stopped": float(stopped)}
    if not sound:
        return metrics
    fitness = [one.fitness for one in sound if one.fitness is not None]
    metrics |= {"fitness/best": max(fitness), "fitness/mean": fmean(fitness), "fitness/worst": min(fitness)}
    languages: dict[str, list[float]] = {}
    for score in sound[fitness.index(max(fitness))].scores:
        metrics[f"score/{score.benchmark}/{score.language}"] = score.score
        languages.setdefault(score.language, []).append(score.score)
    metrics |= {f"language/{language}": fmean(means) for language, means in languages.items()}
    for phase in sorted({phase for one in sound for phase in one.seconds or {}}):
        metrics[f"seconds/{phase}"] = fmean((one.seconds or {}).get(phase, 0.0) for one in sound)
    return metrics


def log_step(run: MlflowRun, step: int, judgements: Sequence[Judgement], *, global_best: float | None) -> None:
    """Logs `step_metrics` and the best fitness ever seen in one call, unless an earlier process has logged this
    step."""
    from mlflow.entities import Metric

    if step in run.steps:
        return
    metrics = step_metrics(judgements) | ({} if global_best is None else {"fitness/global_best": global_best})
    now = int(time.time() * 1000)
    entries = [Metric(check_name(key, "metric"), value, now, step) for key, value in metrics.items()]
    with connect(run.store) as client:
        for first in range(0, len(entries), 1000):
            client.log_batch(run.run_id, metrics=entries[first : first + 1000])


def log_table(run: MlflowRun, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Logs the rows as table `name`.json, replacing what it held. `mlflow.log_table` would append, and a resumed run
    repeat its rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    content = {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}
    file = f"{check_name(name, 'table')}.json"
    with connect(run.store) as client:
        client.log_text(run.run_id, json.dumps(content, allow_nan=False), file)
        listed = json.loads(client.get_run(run.run_id).data.tags.get("mlflow.loggedArtifacts", "[]"))
        if (entry := {"path": file, "type": "table"}) not in listed:
            client.set_tag(run.run_id, "mlflow.loggedArtifacts", json.dumps([*listed, entry]))


def log_figure(run: MlflowRun, name: str, figure: "Figure") -> None:
    """Logs a matplotlib figure as figures/`name`.png."""
    with connect(run.store) as client:
        client.log_figure(run.run_id, figure, f"figures/{check_name(name, 'figure')}.png")


def log_file(run: MlflowRun, path: Path) -> None:
    """Logs a file (recipe.json, report.html) under its own name."""
    with connect(run.store) as client:
        client.log_artifact(run.run_id, str(path))


def finish(
    run: MlflowRun, status: Literal["FINISHED", "FAILED", "KILLED"], *, tags: Mapping[str, str] | None = None
) -> None:
    """Ends the run with a status; tags say how it ended (version, alias, reason)."""
    from mlflow.entities import RunTag

    with connect(run.store) as client:
        client.log_batch(
            run.run_id, tags=[RunTag(check_name(key, "tag"), redact(value)) for key, value in (tags or {}).items()]
        )
        client.set_terminated(run.run_id, status)
