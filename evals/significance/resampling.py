"""Scores of resampled items: groups (passages, concepts) drawn with replacement, or exchanged between two models.

Groups are drawn once for all benchmarks: an item about the same passage in ten languages is one piece of evidence, not
ten. A benchmark whose score is a mean gives sums and counts of its items by group, one with a corpus metric gives sums
of its rows of statistics; the metric is taken of each resample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psomerge.evals.metrics import corpus
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.evals.suites.splits import position_of

LEVEL = 0.95
CELLS = 2_000_000
"""Numbers held at a time while resampling: 16 MB of float64."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Statistics of a benchmark with a corpus metric, summed by group."""

    row: int
    """Which of the benchmarks it is."""
    metric: str
    models: tuple[Floats, ...]
    """(G, S): of the model, or of two, where the second's score is subtracted from the first's."""


@dataclass(frozen=True)
class Clusters:
    """What one model, or the first of two minus the second, has in each of G groups of B benchmarks."""

    sums: Floats
    """(B, G): of the values, or of their differences; 0 where a corpus metric counts."""
    counts: Floats
    """(B, G): of the items."""
    weights: Floats
    """(B,): of the benchmarks; their sum is 1."""
    tables: tuple[Table, ...]

    @property
    def mean(self) -> float:
        """Weighted mean over benchmarks of what was found, not resampled."""
        found = self.sums.sum(axis=1) / self.counts.sum(axis=1)
        for table in self.tables:
            found[table.row] = _first_minus_second([corpus.score(table.metric, one) for one in table.models])
        return float(self.weights @ found)


def cluster(first: Sequence[BenchmarkScore], second: Sequence[BenchmarkScore] | None = None) -> Clusters:
    """Returns a model's scores by group, or the differences between two models that answered the same items.

    Args:
        first: at least one.
        second: of the same benchmarks and items, in the same order.
    """
    groups = {
        group: column for column, group in enumerate(dict.fromkeys(group for score in first for group in score.groups))
    }
    sums, counts, tables = np.zeros((len(first), len(groups))), np.zeros((len(first), len(groups))), []
    for row, score in enumerate(first):
        other = second[row] if second else None
        columns = np.array([groups[group] for group in score.groups])
        counts[row] = np.bincount(columns, minlength=len(groups))
        if score.corpus is None:
            sums[row] = np.bincount(
                columns, np.subtract(score.values, other.values) if other else score.values, len(groups)
            )
        else:
            tables.append(
                Table(row, score.corpus, tuple(_by_group(one, columns, len(groups)) for one in (score, other) if one))
            )
    weights = np.array([score.weight for score in first])
    return Clusters(sums, counts, weights / weights.sum(), tuple(tables))


def bootstrap(clusters: Clusters, resamples: int, *address: str) -> tuple[float, float]:
    """Returns the bounds of the mean over benchmarks when groups are drawn with replacement, as often as there are
    groups.

    A draw that leaves a benchmark without items (possible with a handful of groups) has no mean and is left out.

    Args:
        clusters: of one model or two.
        resamples: how often.
        address: of the draws.

    Source: Koehn 2004 for corpus metrics; a resample's metric is that of its summed statistics.
    """
    generator = _generator("bootstrap", *address)
    groups = clusters.sums.shape[1]
    means = []
    for rows in _chunks(resamples, groups):
        draws = (
            generator.integers(groups, size=(rows, groups), dtype=np.int32)
            + groups * np.arange(rows, dtype=np.int32)[:, None]
        )
        times = np.bincount(draws.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
        with np.errstate(invalid="ignore"):
            found = (times @ clusters.sums.T) / (times @ clusters.counts.T)
        for table in clusters.tables:
            # Added, not set: a draw without items is no number here, and stays none.
            found[:, table.row] += _first_minus_second(
                [corpus.scores(table.metric, times @ one) for one in table.models]
            )
        means.append(found @ clusters.weights)
    found = np.concatenate(means)
    low, high = np.quantile(found[np.isfinite(found)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exchange(clusters: Clusters, resamples: int, *address: str) -> float:
    """Returns the two-sided p-value of the mean difference when any group's answers may be the other model's.

    A mean's difference changes by the sign of the group's own part in it; a corpus metric is taken anew of what both
    models then hold.

    Args:
        clusters: of two models.
        resamples: how often groups are exchanged at random; where there are fewer ways, all are tried.
        address: of the draws.

    Source: Riezler & Maxwell 2005, approximate randomisation; by groups instead of items.
    """
    shares = clusters.weights @ (clusters.sums / clusters.counts.sum(axis=1, keepdims=True))
    unlike = shares != 0
    for table in clusters.tables:
        unlike |= np.ptp(table.models, axis=0).any(axis=1)
    shares = shares[unlike]
    # Equal differences may differ in their last bits, by the order of addition; those of corpus metrics are of numbers
    # near 1.
    observed = float(abs(shares.sum() + _exchanged(clusters, unlike, np.ones((1, len(shares))))[0]) * (1 - 1e-12)) - (
        1e-14 if clusters.tables else 0
    )
    if 2 ** min(len(shares), 60) <= resamples:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(shares))[:, None] >> np.arange(len(shares))) & 1)
        return float(np.mean(np.abs(signs @ shares + _exchanged(clusters, unlike, signs)) >= observed))
    generator = _generator("flips", *address)
    beyond = 0
    for rows in _chunks(resamples, len(shares)):
        bits = np.unpackbits(
            np.frombuffer(generator.bytes(rows * math.ceil(len(shares) / 8)), np.uint8).reshape(rows, -1), axis=1
        )
        signs = 1.0 - 2.0 * bits[:, : len(shares)].astype(np.float64)
        beyond += int(np.sum(np.abs(signs @ shares + _exchanged(clusters, unlike, signs)) >= observed))
    return (1 + beyond) / (1 + resamples)  # the observed signs are one of the flips: a p-value of 0 cannot be


def _exchanged(clusters: Clusters, unlike: NDArray[np.bool_], signs: Floats) -> Floats:
    """The corpus metrics' part (R,) in the mean difference where those of the `unlike` groups whose sign (R, U) is -1
    are exchanged."""
    found = np.zeros(len(signs))
    for table in clusters.tables:
        first, second = table.models
        # Whole numbers, so that sums and differences are exact.
        both, apart = first.sum(axis=0) + second.sum(axis=0), signs @ (first - second)[unlike]
        found += clusters.weights[table.row] * (
            corpus.scores(table.metric, (both + apart) / 2) - corpus.scores(table.metric, (both - apart) / 2)
        )
    return found


def _first_minus_second(numbers: Sequence[Any]) -> Any:
    return numbers[0] - numbers[1] if len(numbers) == 2 else numbers[0]


def _by_group(score: BenchmarkScore, columns: NDArray[np.int64], groups: int) -> Floats:
    table = np.zeros((groups, len(score.statistics[0])))
    np.add.at(table, columns, np.array(score.statistics, dtype=np.float64))
    return table


def _generator(*address: str) -> np.random.Generator:
    return np.random.default_rng(int(position_of("statistics", *address) * 2**53))


def _chunks(resamples: int, groups: int) -> list[int]:
    """Numbers of resamples to hold at a time; their sum is `resamples`."""
    most = max(1, CELLS // max(groups, 1))
    return [min(most, resamples - start) for start in range(0, resamples, most)]
