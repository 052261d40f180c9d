"""Rows of the result table and paired comparisons, from scores item by item."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from psomerge.evals.significance.intervals import RESAMPLES, benchmark_interval, mean_interval, paired
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.recipe import COEFFICIENTS
from psomerge.tasks.report.summary import KINDS, Comparison, Row
from psomerge.tasks.search.steps import Course
from psomerge.tasks.search.table import Result


def result_rows(table: Sequence[Result]) -> list[Row]:
    """Returns the rows of a run's result table, in its order."""
    rows: list[Row] = []
    for one in table:
        if one.test.fitness is None:
            found = Row(one.label, one.kind, judgements=one.judgements, fitness=one.fitness, failure=one.test.failure)
        else:
            found = row(one.label, one.test.scores, kind=one.kind, judgements=one.judgements, fitness=one.fitness)
            found = replace(found, coefficients=one.recipe.coefficients if one.recipe.method == COEFFICIENTS else ())
        rows.append(found)
    return rows


def particle_rows(courses: Sequence[Course]) -> list[dict[str, Any]]:
    """Returns every particle of every step as plain values."""
    return [
        {
            "search": course.search.name,
            "step": number,
            "particle": place,
            "coefficients": str(one.coefficients),
            "fitness": one.fitness,
            "stopped_at": one.bound,
            "failure": one.failure,
        }
        for course in courses
        for number, step in enumerate(course.history, 1)
        for place, one in enumerate(step.particles)
    ]


def row(
    label: str,
    scores: Sequence[BenchmarkScore],
    *,
    kind: str,
    judgements: int = 0,
    fitness: float | None = None,
    resamples: int = RESAMPLES,
) -> Row:
    """Returns a table row with intervals by benchmark, by language and over all; add coefficients by
    `dataclasses.replace`.

    Args:
        scores: on the test split, one per benchmark, in the order to show; not empty.
        kind: one of `tasks.report.summary.KINDS`.
        judgements: spent on optimisation items.
        fitness: reached on optimisation items, in [0, 1]; only drawn into the fitness curve.
        resamples: of the bootstrap behind the intervals.

    Raises:
        ValueError: no scores, two of one benchmark, or an unknown kind.
    """
    names = [score.benchmark for score in scores]
    if not scores or len(set(names)) != len(names):
        raise ValueError(
            f"row {label!r} needs one score for each benchmark, found {names}; give the scores of one evaluation set"
        )
    if kind not in KINDS:
        raise ValueError(f"row {label!r} needs a kind out of {', '.join(KINDS)}, found {kind!r}")
    benchmarks = {score.benchmark: benchmark_interval(score, resamples) for score in scores}
    languages = {score.language: [other for other in scores if other.language == score.language] for score in scores}
    return Row(
        label=label,
        kind=kind,
        mean=mean_interval(scores, resamples),
        benchmarks=benchmarks,
        languages={
            language: benchmarks[group[0].benchmark] if len(group) == 1 else mean_interval(group, resamples)
            for language, group in languages.items()
        },
        judgements=judgements,
        fitness=fitness,
    )


def compare(
    first: Sequence[BenchmarkScore],
    second: Sequence[BenchmarkScore],
    *,
    labels: tuple[str, str],
    resamples: int = RESAMPLES,
) -> Comparison:
    """Returns the paired difference of two models' scores on the same items, first minus second, under their rows'
    labels.

    Raises:
        ValueError: the two hold different benchmarks or items.
    """
    found = paired(first, second, resamples)
    return Comparison(labels[0], labels[1], found.mean, found.low, found.high, found.p_value)
