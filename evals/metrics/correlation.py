"""Spearman's correlation as a corpus metric: counts that are summed before ranks are taken.

Reference and prediction are rounded to fifths from 0 to 5, the scale of STS-B as T5 writes it. How often each pair of
the 26 x 26 occurs is all that the correlation of any set of items depends on, so that a split, or a bootstrap's
resample, is the sum of its items' rows.
"""

import numpy as np
from numpy.typing import NDArray

from psomerge.evals.writing import numbers
from psomerge.evals.writing.forms import plain

Floats = NDArray[np.float64]

LEVELS = 26
"""0, 0.2, ..., 5."""


def level(text: str) -> int:
    """Returns the number of the fifth that a text stands for, 0 to 25; what is no number counts as 0, as in
    FusionBench. Digits of every script count, and a full stop after them does not."""
    try:
        number = float(plain(text))
    except ValueError:
        number = float(numbers.whole(text) or 0)
    return round(min(max(number, 0.0), 5.0) * 5) if number == number else 0


def statistics(prediction: str, reference: str) -> tuple[float, ...]:
    """Returns an item's row (26 * 26,): 1 for its pair of levels, reference first, 0 for all others."""
    place = level(reference) * LEVELS + level(prediction)
    return tuple(int(number == place) for number in range(LEVELS * LEVELS))


def closeness(row: tuple[float, ...]) -> float:
    """Returns how near an item's prediction is to its reference, 1 to 0: one item has no correlation."""
    reference, prediction = divmod(row.index(1), LEVELS)
    return 1 - abs(reference - prediction) / (LEVELS - 1)


def scores(sums: Floats) -> Floats:
    """Returns the correlation of each set of items, in [0, 1]; 0 where it is negative, or all predictions or all
    references are alike.

    Args:
        sums: (sets, 26 * 26), whole numbers: rows of items summed.

    Source: Spearman 1904, as Pearson's correlation of ranks, equal values sharing the mean of theirs.
    """
    tables = sums.reshape(-1, LEVELS, LEVELS)
    first, second = (_ranks(tables.sum(axis=axis)) for axis in (2, 1))
    together = np.einsum("sij,si,sj->s", tables, first, second)
    apart = (tables.sum(axis=2) * first**2).sum(axis=1) * (tables.sum(axis=1) * second**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = together / np.sqrt(apart)
    return np.clip(np.nan_to_num(found, nan=0.0), 0.0, 1.0)


def _ranks(counts: Floats) -> Floats:
    """The rank (sets, 26) of each level less the mean rank."""
    return np.cumsum(counts, axis=1) - counts / 2 - counts.sum(axis=1, keepdims=True) / 2
