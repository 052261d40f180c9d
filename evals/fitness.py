"""From the scores on a suite's benchmarks to the one number that the search raises."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evals.scores import BenchmarkScore

if TYPE_CHECKING:
    from evals.suite import Suite


@dataclass(frozen=True)
class Aggregate:
    """How scores become one number: a mean over benchmarks or over languages, of all of them or of the worst."""

    over: Literal["benchmarks", "languages"] = "benchmarks"
    """What counts as one: a benchmark with its weight, or a language with the weighted mean over its benchmarks, all languages alike."""
    worst: int | None = None
    """Only so many of them count, the lowest; 1 is the worst benchmark or language alone. None: all."""
    normalised: bool = False
    """Whether each benchmark counts from the base (0) to the best expert (1) instead of from 0 to 1."""


@dataclass(frozen=True)
class Floor:
    """What a benchmark's score must not fall below, whatever the mean says."""

    at_least: float | None = None
    """A score in [0, 1]."""
    below_base: float | None = None
    """How far below the base's score on the same items it may be, in [0, 1]."""


def fitness(suite: "Suite", scores: Sequence[BenchmarkScore]) -> float:
    """Returns the suite's aggregate in [0, 1]; by default the mean over benchmarks by their weights (1 each: PSO-Merging's).

    Args:
        suite: says which benchmarks count, how much, and the aggregate.
        scores: one for each benchmark, in any order.

    Raises:
        ValueError: a benchmark is missing, given twice or not in the suite: a mean over fewer would be another fitness.

    Source: arXiv 2508.19839: a particle is scored by the plain mean over tasks; weights, languages and worst ones are ours.
    """
    means = {score.benchmark: score.mean for score in scores}
    expected = {benchmark.name for benchmark in suite.benchmarks}
    if set(means) != expected or len(scores) != len(expected):
        raise ValueError(f"suite {suite.name}: expected one score each of {sorted(expected)}, found {sorted(score.benchmark for score in scores)}")
    parts = [(means[benchmark.name], benchmark.weight) for benchmark in suite.benchmarks]
    if suite.aggregate.over == "languages":
        languages = [benchmark.language for benchmark in suite.benchmarks]
        of_one = {language: [part for part, tag in zip(parts, languages, strict=True) if tag == language] for language in languages}
        parts = [(_mean(own), 1.0) for own in of_one.values()]
    return _mean(sorted(parts)[: suite.aggregate.worst])


def _mean(parts: Sequence[tuple[float, float]]) -> float:
    return math.fsum(value * weight for value, weight in parts) / math.fsum(weight for _, weight in parts)
