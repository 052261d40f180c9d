"""Models on a suite: one is evaluated, several are compared. What was judged before is not judged again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect import flow

from psomerge.checkpoint.pins import digest_file
from psomerge.evals.engines.choice import Choice
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.shell import tokenizer_folder
from psomerge.evals.harness import EvaluationSet, build
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Suite
from psomerge.files.digest import digest_of
from psomerge.files.names import TOKENIZER_FILES
from psomerge.files.untrusted import listing
from psomerge.flows.config.loading import configs_folder, evaluation_config
from psomerge.flows.config.schema import EvaluationConfig
from psomerge.flows.environment.home import Stores, home_folder, prepare
from psomerge.flows.stages.opening import choose_engine, engine_settings, tell_dates
from psomerge.flows.terminal.progress import Progress
from psomerge.run.folder import RunFolder
from psomerge.tasks.experts.fitting import open_fitting
from psomerge.tasks.report.leaderboard import Leaderboard, leaderboard
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.asked_on import asked_on
from psomerge.tasks.search.evaluate import PART, Scored, alone, join, judge_part
from psomerge.tasks.search.run_identity import identity
from psomerge.tasks.sources.named_model import NamedModel, named_model
from psomerge.tasks.step import Bar, cancellable, step
from psomerge.tasks.tracking import evaluation as track_evaluation
from psomerge.tasks.tracking.opening import open_stores
from psomerge.tasks.tracking.store import Store

KIND = "evaluations"
"""Folder of the home that evaluations are kept in, as runs are in `runs`."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one split of a suite, with everything needed to judge it."""

    config: EvaluationConfig
    store: Store
    suite: Suite
    model: NamedModel
    whole: EvaluationSet
    choice: Choice
    settings: EngineSettings
    folder: RunFolder
    progress: Progress


@flow(name="psomerge evaluate", flow_run_name="{model} on {suite}", persist_result=False, validate_parameters=False)
@cancellable
def evaluate(model: str, suite: str, overrides: list[str]) -> dict[str, Any]:
    """Returns the scores of a model on a suite; a finished evaluation's are read, an unfinished one goes on.

    Args:
        model: a folder, an address (`hf://`, `s3://`, `models:/`, `embedded://`), or a recipe file.
        suite: a shipped suite's name, or a path.
        overrides: `key.key=value` each, of `flows.config.schema.EvaluationConfig`.

    Raises:
        PsomergeError: as the command line reports it.
    """
    config, stores = evaluation_config(suite, overrides), prepare(home_folder())
    step("open stores", open_stores, stores.mlflow)
    with Progress() as progress, _opened(model, config, stores, progress, {}) as evaluation:
        if finished := evaluation.folder.result():
            progress.say("this evaluation is finished: nothing is judged again")
            return finished
        scored = _scored(evaluation)
        return step("log", _log, evaluation, scored)


@flow(name="psomerge compare", flow_run_name="models on {suite}", persist_result=False, validate_parameters=False)
@cancellable
def compare(models: list[str], suite: str, overrides: list[str]) -> tuple[Leaderboard, dict[str, Scored]]:
    """Returns the leaderboard of models on the same items of a suite, and their scores by label; every model is
    evaluated that was not before.

    Args:
        models: two or more, as of `evaluate`.
        suite, overrides: as of `evaluate`.

    Raises:
        PsomergeError: as the command line reports it.
    """
    config, stores = evaluation_config(suite, overrides), prepare(home_folder())
    step("open stores", open_stores, stores.mlflow)
    found = load_suite(config.suite, configs_folder() / "suites")
    scored: dict[str, Scored] = {}
    built: dict[str, EvaluationSet] = {}
    for label, model in labels(models).items():
        with Progress() as progress, _opened(model, config, stores, progress, built) as evaluation:
            progress.say(f"{label}: {model}")
            scored[label] = _scored(evaluation)
            if not evaluation.folder.result():
                step(f"log {label}", _log, evaluation, scored[label])
    fitness = {label: alone(found, one.scores) for label, one in scored.items()}
    board = step(
        "compare", leaderboard, found.name, {label: one.scores for label, one in scored.items()}, fitness=fitness
    )
    return board, scored


def labels(models: Sequence[str]) -> dict[str, str]:
    """Returns each model by a short name: the last part of its address that tells it from the others."""
    unique = list(dict.fromkeys(models))
    parts = {model: model.rstrip("/").split("/") for model in unique}
    for length in range(1, max(map(len, parts.values())) + 1):
        names = {"/".join(part[-length:]): model for model, part in parts.items()}
        if len(names) == len(unique):
            return names
    return {model: model for model in unique}


@contextmanager
def _opened(
    address: str, config: EvaluationConfig, stores: Stores, progress: Progress, built: dict[str, EvaluationSet]
) -> Iterator[Evaluation]:
    """The evaluation of one model; requests that are `built` for another with the same tokenizer, by its digest, are
    taken from there."""
    home = stores.home
    suite = load_suite(config.suite, configs_folder() / "suites")
    model = step("fetch", named_model, address, home, progress.fetching, lambda: stores.mlflow)
    tokenizer = model.recipe.tokenizer_from
    basis = open_fitting(model.folders, tokenizer, compiled=False).basis
    choice = choose_engine(config.engine, basis.base.config, progress)
    cutter = tokenizer_folder(basis, tokenizer, home / "cache" / "tokenizers")
    cuts = digest_of(
        {
            name: digest_file(cutter / name)
            for name in sorted(listing(cutter))
            if name in ("config.json", *TOKENIZER_FILES)
        }
    )
    if cuts not in built:
        with progress.phase("building requests"):
            cache = home / "cache" / "datasets"
            built[cuts] = step(
                "build requests",
                build,
                suite,
                config.split,
                cutter,
                seed=config.seed,
                cache=cache,
                allow_task_code=config.allow_task_code,
                date=asked_on(home, suite),
            )
        tell_dates({"": built[cuts]}, progress)
    whole = built[cuts]
    settings = engine_settings(config.engine, [whole], tokenizer)
    canonical = {**config.model_dump(mode="json"), "model": model.source}
    described = identity(canonical, model.recipe.sources, {whole.name: whole}, engine=choice.kind, settings=settings)
    described |= {"recipe": model.recipe.digest()}
    with RunFolder(home / KIND, described, now=datetime.now(UTC).isoformat(timespec="seconds")) as folder:
        progress.say(f"evaluation {folder.key} in {folder.path}")
        yield Evaluation(config, stores.mlflow, suite, model, whole, choice, settings, folder, progress)


def _scored(evaluation: Evaluation) -> Scored:
    """The model's scores, part by part; the engine starts with the first part that is not in the journal."""
    folder, settings, parts = evaluation.folder, evaluation.settings, evaluation.whole.parts(PART)
    bar, found = Bar("parts", "parts of the suite judged"), []
    engine = SupervisedEngine(
        evaluation.model.folders,
        evaluation.choice.kind,
        settings,
        work=folder.path / "engine",
        log=folder.path / "engine.log",
    )
    try:
        for number, part in enumerate(parts, 1):
            evaluation.progress.show(
                "judging",
                (number - 1) / len(parts),
                f"(part {number} of {len(parts)}: {part.prepared[0].benchmark.name} ...)",
            )
            found.append(
                step(
                    f"judge {part.name}",
                    judge_part,
                    engine,
                    evaluation.suite,
                    evaluation.model.recipe,
                    part,
                    folder.journal,
                )
            )
            bar.show(number / len(parts))
    finally:
        engine.close()
    evaluation.progress.show("judging", 1.0)
    return join(found)


def _log(evaluation: Evaluation, scored: Scored) -> dict[str, Any]:
    """Tells MLflow, against the registered version where the model is one, and finishes the folder."""
    suite, folder, model = evaluation.suite, evaluation.folder, evaluation.model
    label = next(iter(labels([model.address])))
    board = leaderboard(suite.name, {label: scored.scores}, fitness={label: alone(suite, scored.scores)})
    items = folder.report / "items.parquet"
    rows = traces.together([(label, file) for file in scored.files], items)
    beside = traces.beside(scored.files)
    for one in suite.benchmarks:
        if one.name in beside:
            evaluation.progress.say(f"{one.name}: beside its score, {one.beside} is {100 * beside[one.name]:.1f} %")
    record = track_evaluation.Record(
        model=model.source,
        suite=suite.name,
        split=evaluation.whole.name,
        digest=evaluation.whole.digest,
        recipe=digest_of(model.recipe.to_dict()),
        line=board.lines[0],
        config={**evaluation.config.model_dump(mode="json"), "model": model.source},
    )
    run_id = track_evaluation.log(
        evaluation.store, evaluation.config.experiment, record, run_key=folder.key, items=items, rows=rows
    )
    result = {
        "run": folder.key,
        "model": model.source,
        "suite": suite.name,
        "split": evaluation.whole.name,
        "fitness": board.lines[0].fitness,
        "leaderboard": board.to_dict(),
        "beside": beside,
        "items": str(items),
        "mlflow_run": run_id,
        "tracking_uri": evaluation.store.address,
    }
    folder.finish(result)
    return result
