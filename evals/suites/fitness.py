"""From the scores on a suite's benchmarks to the one number that the search raises."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.evals.suites.suite import Suite

LEAST_GAIN = 0.05
"""Of the best expert over the base: on a benchmark that no expert improves by more, five points are the unit."""
ROUNDING = 1e-12
"""A score this close below a floor is on it: "one point below 0.56" is no exact float."""


@dataclass(frozen=True)
class References:
    """What a normalised fitness and floors are measured from: the base and the best expert on the same items, in [0,
    1], by benchmark."""

    base: Mapping[str, float]
    best: Mapping[str, float]

    @classmethod
    def of(cls, base: Sequence[BenchmarkScore], experts: Sequence[Sequence[BenchmarkScore]]) -> "References":
        """Returns the references from the base's and the experts' scores; without experts the base is the best."""
        best = {
            one.benchmark: max([one.score for one in ones])
            for ones in zip(*(experts or [base]), strict=True)
            for one in ones[:1]
        }
        return cls({one.benchmark: one.score for one in base}, best)


def needs_references(suite: Suite) -> bool:
    """Returns whether the suite's fitness can be told only beside base and experts."""
    return suite.aggregate.normalised or any(one.floor and one.floor.below_base is not None for one in suite.benchmarks)


def fitness(suite: Suite, scores: Sequence[BenchmarkScore], references: References | None = None) -> float:
    """Returns the suite's aggregate; by default the mean over benchmarks by their weights (1 each: PSO-Merging's), in
    [0, 1].

    Normalised, each benchmark counts (score - base) / (best expert - base), the divisor at least LEAST_GAIN: from -20
    up, 1 is as good as the best expert. A model below a floor is worse than every model that keeps all of them, and the
    worse the more it misses: the least fitness possible minus the sum of what it lacks (Deb 2000, doi
    10.1016/S0045-7825(99)00389-8, section 3).

    Args:
        suite: says which benchmarks count, how much, the aggregate and the floors.
        scores: one for each benchmark, in any order.
        references: where `needs_references`; on the same items.

    Raises:
        ValueError: a benchmark is missing, given twice or not in the suite: a mean over fewer would be another fitness.

    Source: arXiv 2508.19839: a particle is scored by the plain mean over tasks; weights, languages, worst ones, norm
        and floors are ours.
    """
    return aggregate(suite, _by_benchmark(suite, scores), references)


def aggregate(suite: Suite, found: Mapping[str, float], references: References | None = None) -> float:
    """Returns `fitness` of one score for each of the suite's benchmarks, by name. Where the suite is `monotone` a
    higher score never gives less, to the bit."""
    if missed := _lacks(suite, found, references):
        return (-1 / LEAST_GAIN if suite.aggregate.normalised else 0.0) - math.fsum(missed.values())
    counted = dict(found)
    if suite.aggregate.normalised:
        assert references is not None, "judge base and experts first"
        counted = {name: (one - references.base[name]) / _unit(references, name) for name, one in counted.items()}
    parts = [(counted[benchmark.name], benchmark.weight) for benchmark in suite.benchmarks]
    if suite.aggregate.over == "languages":
        languages = [benchmark.language for benchmark in suite.benchmarks]
        of_one = {
            language: [part for part, tag in zip(parts, languages, strict=True) if tag == language]
            for language in languages
        }
        parts = [(_mean(own), 1.0) for own in of_one.values()]
    return _mean(sorted(parts)[: suite.aggregate.worst])


def missing(suite: Suite, scores: Sequence[BenchmarkScore], references: References | None = None) -> dict[str, float]:
    """Returns by benchmark how far the score is below its floor, for those below it; arguments and errors as
    `fitness`."""
    return _lacks(suite, _by_benchmark(suite, scores), references)


def monotone(suite: Suite) -> bool:
    """Returns whether a higher score never means less fitness: not so in a mean over several worst benchmarks of
    unequal weight, where a heavy one that rises can leave the worst to lighter ones."""
    several = suite.aggregate.over == "benchmarks" and (suite.aggregate.worst or 1) > 1
    return (
        not several
        or len({one.weight for one in suite.benchmarks}) == 1
        or suite.aggregate.worst == len(suite.benchmarks)
    )


def slopes(suite: Suite, references: References | None = None) -> dict[str, float] | None:
    """Returns by benchmark what one more point, of [0, 1], adds to the fitness of a model above all floors; None where
    that depends on the scores."""
    aggregate = suite.aggregate
    if aggregate.worst is not None:
        return None
    by_language = aggregate.over == "languages"
    of_language = {
        one.language: math.fsum(other.weight for other in suite.benchmarks if other.language == one.language)
        for one in suite.benchmarks
    }
    found = {}
    for one in suite.benchmarks:
        share = 1 / len(of_language) / of_language[one.language] if by_language else 1 / math.fsum(of_language.values())
        unit = 1.0
        if aggregate.normalised:
            assert references is not None, "judge base and experts first"
            unit = _unit(references, one.name)
        found[one.name] = one.weight * share / unit
    return found


def _unit(references: References, name: str) -> float:
    """How many points on a benchmark are 1 in a normalised fitness."""
    return max(references.best[name] - references.base[name], LEAST_GAIN)


def _lacks(suite: Suite, found: Mapping[str, float], references: References | None) -> dict[str, float]:
    lacks: dict[str, float] = {}
    for benchmark in suite.benchmarks:
        if (floor := benchmark.floor) is None:
            continue
        least = [floor.at_least] if floor.at_least is not None else []
        if floor.below_base is not None:
            assert references is not None, "judge the base first"
            least.append(references.base[benchmark.name] - floor.below_base)
        lacks[benchmark.name] = max(least) - found[benchmark.name]
    return {name: lack for name, lack in lacks.items() if lack > ROUNDING}


def _by_benchmark(suite: Suite, scores: Sequence[BenchmarkScore]) -> dict[str, float]:
    found = {score.benchmark: score.score for score in scores}
    expected = {benchmark.name for benchmark in suite.benchmarks}
    if set(found) != expected or len(scores) != len(expected):
        raise ValueError(
            f"suite {suite.name}: expected one score each of {sorted(expected)}, found "
            f"{sorted(score.benchmark for score in scores)}"
        )
    return found


def _mean(parts: Sequence[tuple[float, float]]) -> float:
    return math.fsum(value * weight for value, weight in parts) / math.fsum(weight for _, weight in parts)
