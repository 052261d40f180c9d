"""The steps that methods are made of, on pieces of task vectors: trim, elect, weigh."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from psomerge.arithmetic.masks import magnitude_threshold
from psomerge.checkpoint.adapter import task_vector
from psomerge.merge.basis import Basis

CHUNK = 2**15
"""Elements that are worked on together. Masks are numbers in place: torch selects element by element, ten times slower
than it multiplies."""


def merged_task_vector(
    basis: Basis, name: str, rows: slice | None, merge: Callable[[Sequence[Tensor]], Tensor]
) -> Tensor:
    """Returns the task vector of a merged tensor, or of a range of its rows, float32.

    Args:
        basis: base and experts.
        name: of the tensor.
        rows: range of dimension 0, None for all.
        merge: gives, for one piece (n,) float32 of every expert's task vector, that of the merged one.
    """
    base = basis.base.tensor(name, rows)
    deltas = [task_vector(basis.base, expert, name, rows) for expert in basis.experts]
    merged = torch.empty(base.numel(), dtype=torch.float32)
    for begin in range(0, base.numel(), CHUNK):
        piece = slice(begin, begin + CHUNK)
        merged[piece] = merge([delta(piece) for delta in deltas])
    return merged.view(base.shape)


def trim_thresholds(basis: Basis, name: str, density: float) -> list[float]:
    """Returns for each expert the magnitude from which on `trim` keeps the `density` largest entries of its task vector
    in a whole tensor; nothing for an empty one. Worked out once a basis."""
    count = torch.Size(basis.base.tensors[name].shape).numel()
    return basis.once(
        ("trim", name, density),
        lambda: [
            magnitude_threshold(task_vector(basis.base, expert, name), count, density)
            for expert in (basis.experts if count else ())
        ],
    )


def trim(delta: Tensor, threshold: float) -> Tensor:
    """Returns a task vector (any shape, float32) with all but its entries of at least that magnitude set to zero."""
    return delta.abs().ge_(threshold).mul_(delta)


def elect(trimmed: Sequence[Tensor]) -> Tensor:
    """Returns the sign, 1 or -1 in float32, of the sum of trimmed task vectors (float32, one shape); where they cancel
    exactly it is 1. Source: TIES-Merging (arXiv 2306.01708), section 4: the sum is unweighted."""
    mass = trimmed[0].clone()
    for delta in trimmed[1:]:
        mass += delta
    return mass.ge_(0).mul_(2).sub_(1)


def disjoint_mean(trimmed: Sequence[Tensor], sign: Tensor, weights: Sequence[float]) -> Tensor:
    """Returns the weighted mean over the entries that agree with the elected sign, 0 where none does.

    Args:
        trimmed: trimmed task vectors, float32, one shape.
        sign: from `elect`.
        weights: one each, >= 0.
    """
    total, count = torch.zeros_like(sign), torch.zeros_like(sign)
    for delta, weight in zip(trimmed, weights, strict=True):
        share = (delta * sign).gt_(0).mul_(weight)
        count += share
        total += share.mul_(delta)
    return total.div_(count.clamp_min_(torch.finfo(torch.float32).tiny))  # where nothing agrees, 0 / tiny
