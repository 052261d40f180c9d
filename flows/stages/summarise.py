"""A run as the record that its report, table and figures show."""

import resource
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

from psomerge.files.digest import digest_of
from psomerge.flows.stages.opening import Run
from psomerge.merge.grouping import GROUPINGS
from psomerge.recipe import COEFFICIENTS, Source
from psomerge.tasks.report.rows import compare, row
from psomerge.tasks.report.summary import Model, Provenance, Registration, Row, Split, Summary
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


def rows_of(table: Sequence[Result]) -> list[Row]:
    """Returns the rows of the result table, in its order."""
    rows: list[Row] = []
    for one in table:
        if one.test.fitness is None:
            rows.append(
                Row(one.label, one.kind, judgements=one.judgements, fitness=one.fitness, failure=one.test.failure)
            )
            continue
        estimate = row(one.label, one.test.scores, kind=one.kind, judgements=one.judgements, fitness=one.fitness)
        rows.append(
            replace(estimate, coefficients=one.recipe.coefficients if one.recipe.method == COEFFICIENTS else ())
        )
    return rows


def facts(run: Run) -> list[tuple[str, str]]:
    """Returns what the result depends on, for the model card."""
    made_of = [
        ("run key", run.folder.key),
        ("suite", run.suite.name),
        ("seed", str(run.config.seed)),
        ("tokenizer", run.tokenizer),
    ]
    return [*made_of, *versions().items(), ("device", device())]


def summarise(run: Run, outcome: Outcome, table: Sequence[Result], registration: Registration) -> Summary:
    """Returns the summary of a run that is all but finished."""
    course = outcome.courses[0]
    result = course.search.label
    scores = {one.label: one.test.scores for one in table if one.test.fitness is not None}
    others = [label for label in scores if label != result]
    return Summary(
        run=run.folder.key,
        config=run.config.name,
        suite=run.suite.name,
        seed=run.config.seed,
        swarm=course.search.name,
        result=result,
        history=course.history,
        rows=tuple(rows_of(table)),
        provenance=_provenance(run),
        recipe=outcome.chosen.to_dict(),
        comparisons=tuple(compare(scores[result], scores[label], labels=(result, label)) for label in others)
        if result in scores
        else (),
        splits=tuple(Split(name, sum(map(len, one.items.values())), USES[name]) for name, one in run.sets.items()),
        candidates=outcome.selections[0].candidates,
        warnings=run.warnings,
        groups=tuple(dict.fromkeys(map(GROUPINGS[run.recipe.grouping], run.basis.base.tensors)))
        if run.groups > 1
        else (),
        seconds={phase: run.seconds[phase] for phase in PHASES if phase in run.seconds},
        wall_seconds=monotonic() - run.start + run.seconds["fetch"],
        judgements=course.judgements,
        engine_bytes=run.peak_bytes,
        main_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        registration=registration,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _provenance(run: Run) -> Provenance:
    def model(source: Source) -> Model:
        return Model(source.name, source.source, source.revision, digest_of(dict(source.files)))

    capabilities = run.engine.capabilities
    return Provenance(
        base=model(run.sources["base"]),
        experts=tuple(model(run.sources[name]) for name in run.config.experts),
        versions=versions(),
        device=device(),
        threads=run.settings.threads,
        engine=f"{capabilities.name} {capabilities.version}" + (f" ({run.choice.why})" if run.choice.why else ""),
        dtype=capabilities.dtype,
        tokenizer=run.tokenizer,
    )
