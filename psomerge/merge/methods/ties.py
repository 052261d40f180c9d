"""TIES merging: trim, elect a sign, average what agrees."""

from collections.abc import Sequence

import torch
from torch import Tensor

from psomerge.arithmetic.masks import magnitude_threshold
from psomerge.checkpoint.adapter import task_vector
from psomerge.checkpoint.reader import Checkpoint

CHUNK = 2**15
"""Elements that are worked on together. Masks are numbers in place: torch selects element by element, ten times slower
than it multiplies."""


class TiesDirection:
    """The TIES task vector of several experts at one density; remembers every trim threshold, which needs a whole
    tensor."""

    def __init__(self, base: Checkpoint, experts: Sequence[Checkpoint], density: float) -> None:
        self._base, self._experts, self._density = base, tuple(experts), density
        self._thresholds: dict[tuple[int, str], float] = {}

    def delta(self, tensor: str, weights: Sequence[float], rows: slice | None) -> Tensor:
        """Returns the merged task vector of one tensor, or of a range of its rows, float32.

        Args:
            tensor: its name.
            weights: one a expert, >= 0; they act in the average only, never in the election.
            rows: range of dimension 0, None for all.
        """
        base = self._base.tensor(tensor, rows)
        deltas = [task_vector(self._base, expert, tensor, rows) for expert in self._experts]
        thresholds = [self._threshold(i, tensor) for i in range(len(deltas))] if base.numel() else []
        merged = torch.empty(base.numel(), dtype=torch.float32)
        for begin in range(0, base.numel(), CHUNK):
            piece = slice(begin, begin + CHUNK)
            trimmed = [trim(delta(piece), threshold) for delta, threshold in zip(deltas, thresholds, strict=True)]
            merged[piece] = elect_and_average(trimmed, weights)
        return merged.view(base.shape)

    def _threshold(self, expert: int, tensor: str) -> float:
        if (expert, tensor) not in self._thresholds:
            delta = task_vector(self._base, self._experts[expert], tensor)
            self._thresholds[expert, tensor] = magnitude_threshold(
                delta, self._base.tensor(tensor).numel(), self._density
            )
        return self._thresholds[expert, tensor]


def trim(delta: Tensor, threshold: float) -> Tensor:
    """Returns a task vector (any shape, float32) with all but its entries of at least that magnitude set to zero."""
    return delta.abs().ge_(threshold).mul_(delta)


def elect_and_average(trimmed: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Returns the disjoint mean over the entries that agree with the elected sign.

    Args:
        trimmed: trimmed task vectors, float32, one shape.
        weights: one each, >= 0.

    Source: TIES-Merging (arXiv 2306.01708), section 4: the sign is that of the sum of the trimmed, unweighted task
        vectors; where they cancel exactly it is +.
    We trim each tensor by itself, the authors' code the whole model at once.
    """
    mass = trimmed[0].clone()
    for delta in trimmed[1:]:
        mass += delta
    sign = mass.ge_(0).mul_(2).sub_(1)
    total, count = torch.zeros_like(mass), torch.zeros_like(mass)
    for delta, weight in zip(trimmed, weights, strict=True):
        share = (delta * sign).gt_(0).mul_(weight)
        count += share
        total += share.mul_(delta)
    return total.div_(count.clamp_min_(torch.finfo(torch.float32).tiny))  # where nothing agrees, 0 / tiny
