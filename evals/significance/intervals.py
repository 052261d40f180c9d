"""How sure a score is: 95 % intervals and paired tests on per-item scores, with items of one group (passage, concept)
kept together.

How groups are resampled, and what a corpus metric's score of a resample is, says `evals.significance.resampling`. The
mean over benchmarks, of either kind, is the weighted one of `evals.suites.fitness`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from psomerge.evals.significance.resampling import LEVEL, bootstrap, cluster, exchange
from psomerge.evals.suites.scores import BenchmarkScore

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A score, or the mean of several, with its 95 % confidence interval, all in [0, 1], over `n` items."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """First model minus second on the same `n` items: mean and 95 % interval in [-1, 1], two-sided p-value of no
    difference."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int


def benchmark_interval(score: BenchmarkScore, resamples: int = RESAMPLES) -> Interval:
    """Interval of one benchmark: Wilson's where items are right or wrong and each its own group, else (and for a corpus
    metric) by bootstrap over groups.

    Items that are all right, or all wrong, have no spread to resample: there Wilson's interval for as many trials as
    there are groups is given.
    """
    from statsmodels.stats.proportion import proportion_confint

    groups = len(set(score.groups))
    if _binary(score) and (groups == len(score.values) or len(set(score.values)) == 1):
        low, high = np.asarray(
            proportion_confint(score.score * groups, groups, alpha=1 - LEVEL, method="wilson"), dtype=np.float64
        )
        return Interval(float(score.score), float(low), float(high), len(score.values))
    return mean_interval([score], resamples)


def mean_interval(scores: Sequence[BenchmarkScore], resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the weighted mean over benchmarks, by bootstrap over groups.

    Where no benchmark has any spread to resample, each all right or all wrong, it is the mean of their own intervals:
    as wide as if they moved together, which groups of several benchmarks may do.

    Args:
        scores: one model's, at least one.
        resamples: drawn by the address of the benchmarks' names: the same scores have the same interval everywhere.
    """
    clusters = cluster(scores)
    if all(_binary(score) and len(set(score.values)) == 1 for score in scores):
        own = [benchmark_interval(score) for score in scores]
        low, high = (
            float(clusters.weights @ bounds) for bounds in zip(*((one.low, one.high) for one in own), strict=True)
        )
    else:
        low, high = bootstrap(clusters, resamples, *_names(scores))
    return Interval(clusters.mean, low, high, sum(len(score.values) for score in scores))


def paired(first: Sequence[BenchmarkScore], second: Sequence[BenchmarkScore], resamples: int = RESAMPLES) -> Difference:
    """Difference of two models on the same items.

    The interval is by paired bootstrap over groups. The p-value is of the null hypothesis that the models can be
    exchanged group by group: by flipping the sign of whole groups' differences, and exchanging their statistics where a
    metric is of the whole corpus; for one benchmark of right-or-wrong, ungrouped items that test has a closed form,
    McNemar's exact one.

    Args:
        first, second: of the same benchmarks and items, in the same order.
        resamples: of the bootstrap and of the sign flips; where fewer flips exist, all of them are taken.

    Raises:
        ValueError: the two hold different benchmarks or items.
    """
    asked = [[(s.benchmark, s.items, s.groups, s.weight, s.corpus) for s in scores] for scores in (first, second)]
    if asked[0] != asked[1] or not first:
        raise ValueError(
            f"expected scores of two models on the same items, found {_names(first)} and {_names(second)}; judge "
            "both on one evaluation set"
        )
    clusters = cluster(first, second)
    low, high = bootstrap(clusters, resamples, *_names(first))
    alone = (
        len(first) == 1
        and len(set(first[0].groups)) == len(first[0].groups)
        and _binary(first[0])
        and _binary(second[0])
    )
    p_value = _mcnemar(first[0], second[0]) if alone else exchange(clusters, resamples, *_names(first))
    return Difference(clusters.mean, low, high, p_value, sum(len(score.values) for score in first))


def _names(scores: Sequence[BenchmarkScore]) -> list[str]:
    return [score.benchmark for score in scores]


def _binary(score: BenchmarkScore) -> bool:
    return score.corpus is None and set(score.values) <= {0.0, 1.0}


def _mcnemar(first: BenchmarkScore, second: BenchmarkScore) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    right, other = np.array(first.values) == 1, np.array(second.values) == 1
    table = [
        [int(np.sum(right & other)), int(np.sum(right & ~other))],
        [int(np.sum(~right & other)), int(np.sum(~right & ~other))],
    ]
    return float(mcnemar(table, exact=True).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
