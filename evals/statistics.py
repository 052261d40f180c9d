"""How sure a score is: 95 % intervals and paired tests on per-item scores, with items of one group (passage, concept) kept together.

Groups are drawn once for all benchmarks: an item about the same passage in ten languages is one piece of evidence, not ten. The mean over benchmarks
is the weighted one of `evals.suite.fitness`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.scores import BenchmarkScore
from evals.splits import position_of

RESAMPLES = 10_000
LEVEL = 0.95
CELLS = 2_000_000
"""Numbers held at a time while resampling: 16 MB of float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval, all in [0, 1], over `n` items."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """First model minus second on the same `n` items: mean and 95 % interval in [-1, 1], two-sided p-value of no difference."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int


@dataclass(frozen=True)
class _Clusters:
    """Sums and counts of items by benchmark and group, both (B, G), and the benchmarks' weights (B,), which sum to 1."""

    sums: Floats
    counts: Floats
    weights: Floats

    @property
    def mean(self) -> float:
        return float(self.weights @ (self.sums.sum(axis=1) / self.counts.sum(axis=1)))


def benchmark_interval(score: BenchmarkScore, resamples: int = RESAMPLES) -> Interval:
    """Interval of one benchmark: Wilson's where items are right or wrong and each its own group, else by bootstrap over groups.

    Items that are all right, or all wrong, have no spread to resample: there Wilson's interval for as many trials as there are groups is given.
    """
    from statsmodels.stats.proportion import proportion_confint

    groups = len(set(score.groups))
    if _binary(score) and (groups == len(score.values) or len(set(score.values)) == 1):
        low, high = np.asarray(proportion_confint(score.mean * groups, groups, alpha=1 - LEVEL, method="wilson"), dtype=np.float64)
        return Interval(float(score.mean), float(low), float(high), len(score.values))
    return mean_interval([score], resamples)


def mean_interval(scores: Sequence[BenchmarkScore], resamples: int = RESAMPLES) -> Interval:
    """Percentile interval of the weighted mean over benchmarks, by bootstrap over groups.

    Args:
        scores: one model's, at least one.
        resamples: drawn by the address of the benchmarks' names: the same scores have the same interval everywhere.
    """
    clusters = _clusters(scores, [score.values for score in scores])
    low, high = _bootstrap(clusters, resamples, *_names(scores))
    return Interval(clusters.mean, low, high, sum(len(score.values) for score in scores))


def paired(first: Sequence[BenchmarkScore], second: Sequence[BenchmarkScore], resamples: int = RESAMPLES) -> Difference:
    """Difference of two models on the same items.

    The interval is by paired bootstrap over groups. The p-value is of the null hypothesis that the models can be exchanged group by group: by flipping
    the sign of whole groups' differences; for one benchmark of right-or-wrong, ungrouped items that test has a closed form, McNemar's exact one.

    Args:
        first, second: of the same benchmarks and items, in the same order.
        resamples: of the bootstrap and of the sign flips; where fewer flips exist, all of them are taken.

    Raises:
        ValueError: the two hold different benchmarks or items.
    """
    if [(s.benchmark, s.items, s.groups, s.weight) for s in first] != [(s.benchmark, s.items, s.groups, s.weight) for s in second] or not first:
        raise ValueError(f"expected scores of two models on the same items, found {_names(first)} and {_names(second)}; judge both on one evaluation set")
    differences = [np.subtract(a.values, b.values) for a, b in zip(first, second, strict=True)]
    clusters = _clusters(first, differences)
    low, high = _bootstrap(clusters, resamples, *_names(first))
    alone = len(first) == 1 and len(set(first[0].groups)) == len(first[0].groups) and _binary(first[0]) and _binary(second[0])
    p_value = _mcnemar(first[0], second[0]) if alone else _sign_flip(clusters, resamples, *_names(first))
    return Difference(clusters.mean, low, high, p_value, sum(len(score.values) for score in first))


def _names(scores: Sequence[BenchmarkScore]) -> list[str]:
    return [score.benchmark for score in scores]


def _binary(score: BenchmarkScore) -> bool:
    return set(score.values) <= {0.0, 1.0}


def _clusters(scores: Sequence[BenchmarkScore], values: Sequence[Sequence[float] | Floats]) -> _Clusters:
    groups = {group: column for column, group in enumerate(dict.fromkeys(group for score in scores for group in score.groups))}
    sums, counts = np.zeros((len(scores), len(groups))), np.zeros((len(scores), len(groups)))
    for row, (score, numbers) in enumerate(zip(scores, values, strict=True)):
        columns = np.array([groups[group] for group in score.groups])
        sums[row] = np.bincount(columns, numbers, len(groups))
        counts[row] = np.bincount(columns, minlength=len(groups))
    weights = np.array([score.weight for score in scores])
    return _Clusters(sums, counts, weights / weights.sum())


def _generator(*address: str) -> np.random.Generator:
    return np.random.default_rng(int(position_of("statistics", *address) * 2**53))


def _bootstrap(clusters: _Clusters, resamples: int, *address: str) -> tuple[float, float]:
    """Bounds of the mean over benchmarks when groups are drawn with replacement, as often as there are groups.

    A draw that leaves a benchmark without items (possible with a handful of groups) has no mean and is left out.
    """
    generator = _generator("bootstrap", *address)
    groups = clusters.sums.shape[1]
    means = []
    for rows in _chunks(resamples, groups):
        draws = generator.integers(groups, size=(rows, groups), dtype=np.int32) + groups * np.arange(rows, dtype=np.int32)[:, None]
        times = np.bincount(draws.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append((times @ clusters.sums.T) / (times @ clusters.counts.T) @ clusters.weights)
    found = np.concatenate(means)
    low, high = np.quantile(found[np.isfinite(found)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _sign_flip(clusters: _Clusters, resamples: int, *address: str) -> float:
    """Two-sided p-value of the mean difference when every group's sign is free."""
    shares = clusters.weights @ (clusters.sums / clusters.counts.sum(axis=1, keepdims=True))
    shares = shares[shares != 0]
    observed = abs(shares.sum()) * (1 - 1e-12)  # equal sums may differ in their last bit, by the order of addition
    if 2 ** min(len(shares), 60) <= resamples:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(shares))[:, None] >> np.arange(len(shares))) & 1)
        return float(np.mean(np.abs(signs @ shares) >= observed))
    generator = _generator("flips", *address)
    beyond = 0
    for rows in _chunks(resamples, len(shares)):
        bits = np.unpackbits(np.frombuffer(generator.bytes(rows * math.ceil(len(shares) / 8)), np.uint8).reshape(rows, -1), axis=1)
        beyond += int(np.sum(np.abs((1.0 - 2.0 * bits[:, : len(shares)]) @ shares) >= observed))
    return (1 + beyond) / (1 + resamples)  # the observed signs are one of the flips: a p-value of 0 cannot be


def _mcnemar(first: BenchmarkScore, second: BenchmarkScore) -> float:
    from statsmodels.stats.contingency_tables import mcnemar

    right, other = np.array(first.values) == 1, np.array(second.values) == 1
    table = [[int(np.sum(right & other)), int(np.sum(right & ~other))], [int(np.sum(~right & other)), int(np.sum(~right & ~other))]]
    return float(mcnemar(table, exact=True).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def _chunks(resamples: int, groups: int) -> list[int]:
    """Numbers of resamples to hold at a time; their sum is `resamples`."""
    most = max(1, CELLS // max(groups, 1))
    return [min(most, resamples - start) for start in range(0, resamples, most)]
