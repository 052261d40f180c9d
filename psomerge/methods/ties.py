"""TIES merging: trim, elect a sign, average what agrees."""

from collections.abc import Sequence

import torch
from torch import Tensor

from psomerge.checkpoint import Checkpoint
from psomerge.masks import magnitude_threshold


class TiesDirection:
    """The TIES task vector of several experts at one density; remembers every trim threshold, which needs a whole tensor."""

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
        base = self._base.tensor(tensor, rows).float()
        trimmed: list[Tensor] = []
        for i, expert in enumerate(self._experts):
            delta = expert.tensor(tensor, rows).float() - base
            trimmed.append(torch.where(delta.abs() >= self._threshold(i, tensor), delta, 0.0))
        return elect_and_average(trimmed, weights)

    def _threshold(self, expert: int, tensor: str) -> float:
        if (expert, tensor) not in self._thresholds:
            delta = self._experts[expert].tensor(tensor).float() - self._base.tensor(tensor).float()
            self._thresholds[expert, tensor] = magnitude_threshold(delta, self._density)
        return self._thresholds[expert, tensor]


def elect_and_average(trimmed: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Returns the disjoint mean over the entries that agree with the elected sign.

    Args:
        trimmed: trimmed task vectors, float32, one shape.
        weights: one each, >= 0.

    Source: TIES-Merging (arXiv 2306.01708), section 4: the sign is that of the sum of the trimmed, unweighted task vectors; where they cancel exactly it is +.
    We trim each tensor by itself, the authors' code the whole model at once.
    """
    mass = trimmed[0]
    for delta in trimmed[1:]:
        mass = mass + delta
    positive = mass >= 0
    total, count = torch.zeros_like(mass), torch.zeros_like(mass)
    for delta, weight in zip(trimmed, weights, strict=True):
        share = torch.where((delta != 0) & ((delta > 0) == positive), torch.tensor(weight, dtype=torch.float32), 0.0)
        total = total + share * delta
        count = count + share
    return torch.where(count > 0, total / count.clamp_min(torch.finfo(torch.float32).tiny), 0.0)
