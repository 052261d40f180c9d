"""A run as the record that its report, table and figures show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psomerge.evals.engines.choice import Choice
from psomerge.evals.engines.engine import Capabilities
from psomerge.files.digest import digest_of
from psomerge.recipe import Source
from psomerge.tasks.report.rows import compare, result_rows
from psomerge.tasks.report.summary import Model, Provenance, Registration, Split, Summary
from psomerge.tasks.search.inputs import Inputs
from psomerge.tasks.search.run_identity import device, versions
from psomerge.tasks.search.table import Outcome, Result

PHASES = (
    "fetch",
    "start engine",
    "merge",
    "load",
    "reset",
    "canary",
    "score",
    "write",
    "register",
    "verify",
    "promote",
    "bookkeeping",
)
USES = {
    "optimisation": "the search's fitness, and tuning of the baselines",
    "validation": "re-ranking of the best models",
    "test": "this table, once",
}


@dataclass(frozen=True)
class Costs:
    """What a run took."""

    seconds: Mapping[str, float]
    """Wall seconds by phase."""
    wall_seconds: float
    engine_bytes: int
    """Peak resident memory of the engine's process."""
    main_bytes: int
    """Of the pipeline's own."""


def facts(run: str, inputs: Inputs) -> list[tuple[str, str]]:
    """Returns what the result of a run, by its key, depends on, for the model card."""
    made_of = [("run key", run), ("suite", inputs.suite.name), ("seed", str(inputs.seed))]
    return [*made_of, ("tokenizer", inputs.tokenizer), *versions().items(), ("device", device())]


def summarise(
    run: str,
    inputs: Inputs,
    outcome: Outcome,
    table: Sequence[Result],
    *,
    choice: Choice,
    capabilities: Capabilities,
    costs: Callable[[], Costs],
    registration: Registration,
) -> Summary:
    """Returns the summary of a run that is all but finished.

    Args:
        run: its key.
        inputs: of it.
        outcome, table: what it found, and how that does on the test items.
        choice, capabilities: of the engine that judged.
        costs: tells what the run took; asked last.
        registration: of the chosen model.
    """
    course = outcome.courses[0]
    result = course.search.label
    scores = {one.label: one.test.scores for one in table if one.test.fitness is not None}
    others = [label for label in scores if label != result and result in scores]
    rows = tuple(result_rows(table))
    comparisons = tuple(compare(scores[result], scores[label], labels=(result, label)) for label in others)
    took = costs()
    return Summary(
        run=run,
        config=inputs.name,
        suite=inputs.suite.name,
        seed=inputs.seed,
        swarm=course.search.name,
        result=result,
        history=course.history,
        rows=rows,
        provenance=_provenance(inputs, choice, capabilities),
        recipe=outcome.chosen.to_dict(),
        comparisons=comparisons,
        splits=tuple(Split(name, sum(map(len, one.items.values())), USES[name]) for name, one in inputs.sets.items()),
        equal=next(iter(inputs.sets.values())).equal,
        candidates=outcome.selections[0].candidates,
        warnings=inputs.warnings,
        groups=inputs.groups,
        seconds={phase: took.seconds[phase] for phase in PHASES if phase in took.seconds},
        wall_seconds=took.wall_seconds,
        judgements=course.judgements,
        engine_bytes=took.engine_bytes,
        main_bytes=took.main_bytes,
        registration=registration,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _provenance(inputs: Inputs, choice: Choice, capabilities: Capabilities) -> Provenance:
    def model(source: Source) -> Model:
        return Model(source.name, source.source, source.revision, digest_of(dict(source.files)))

    return Provenance(
        base=model(inputs.recipe.base),
        experts=tuple(map(model, inputs.recipe.experts)),
        versions=versions(),
        device=device(),
        threads=capabilities.threads,
        engine=f"{capabilities.name} {capabilities.version}" + (f" ({choice.why})" if choice.why else ""),
        dtype=capabilities.dtype,
        tokenizer=inputs.tokenizer,
    )
