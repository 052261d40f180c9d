"""Initial points of a search over n experts: (P, G, D) float64, the base first, then the experts."""

import numpy as np

from psomerge.search.search import Array

PULL = 0.5
"""u of the star."""


def paper(experts: int, groups: int) -> Array:
    """Returns the initial positions of PSO-Merging: the base, the experts, their DARE copies.

    Args:
        experts: n >= 1.
        groups: G >= 1.

    Returns:
        (2n+1, G, 2n): zero, then a unit vector for each direction (n task vectors, then their n DARE copies).
    """
    return _in_groups(np.concatenate([np.zeros((1, 2 * experts)), np.eye(2 * experts)]), groups)


def star(experts: int, groups: int, *, scale: float | None = None, pull: float = PULL) -> Array:
    """Returns initial positions around sums of task vectors: the base, the experts, and for each expert a sum that
    leans to it.

    Sums of useful merges lie near 2, where the paper's swarm, whose sums are 0 or 1, hardly gets.

    Args:
        experts: n >= 1.
        groups: G >= 1.
        scale: s, weight of every expert in the sums; default min(1, 2/n).
        pull: u, what is added to the expert that the sum leans to.

    Returns:
        (2n+1, G, n): zero, e_i, s * 1 + u * e_i.
    """
    s = min(1.0, 2.0 / experts) if scale is None else scale
    unit = np.eye(experts)
    return _in_groups(np.concatenate([np.zeros((1, experts)), unit, s + pull * unit]), groups)


def _in_groups(rows: Array, groups: int) -> Array:
    return np.repeat(rows[:, None, :], groups, axis=1)
