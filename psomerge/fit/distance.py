"""How far experts lie from their base, tensor by tensor, and what that gives away; in the same pass, whether all values
are numbers.

Each file is read once. A tensor's norm is Euclidean; its *distance* is the norm of the task vector over that of the
base's tensor: 0.001 to 0.1 after a fine-tune, up to 0.3 after much training of a small model, 1 and more (the square
root of 2 at equal norms) from a model that began elsewhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from psomerge.checkpoint.finite import finite_fault
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.reader import Checkpoint
from psomerge.fit.warning import FitWarning
from psomerge.vocabulary.aligned import blocks

CHUNK = 2**15
"""Elements of a chunk; of so few torch takes the norm on one thread, which beside other threads' work is much faster
than on all."""
FOREIGN = 0.9
"""Distance from which a matrix looks unrelated: without any correlation it is sqrt(1 + |expert|^2 / |base|^2), so
never below 1."""
NEAR = 0.3
"""Distance up to which an expert is never called far from its peers."""
TIMES, DEVIATIONS = 8.0, 5.0
"""An expert is far from its peers where its distance exceeds their median this many times, and by so many of their
robust standard deviations (logarithms)."""
ROBUST = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class Distances:
    """Of one expert from its base."""

    matrices: Mapping[str, float]
    """By tensor of two dimensions or more whose norm in the base is not 0; a vector may be 0 in the base and anything
    later."""
    moved: bool
    """Whether any value of any tensor differs."""

    def level(self) -> float:
        """Returns the median distance, 0 without matrices."""
        return median(self.matrices.values()) if self.matrices else 0.0


def measure(base: Checkpoint, experts: Sequence[Checkpoint]) -> tuple[dict[str, Distances], list[str]]:
    """Returns the distances of every expert by name, and a line for every tensor of base and experts whose values keep
    them from being merged.

    Such values are NaN and infinities; integers are `misfits.buffer_misfits`'s. Tensors that do not fit the base are
    only looked at for themselves.

    Args:
        base: opened with its weights.
        experts: opened with their weights; different names.
    """
    faults: list[str] = []
    matrices: dict[str, dict[str, float]] = {expert.name: {} for expert in experts}
    moved = dict.fromkeys(matrices, False)
    for name, info in base.tensors.items():
        fitting = [expert for expert in experts if name in expert.tensors and _alike(info, expert.tensors[name])]
        if not info.dtype.is_floating_point:
            continue
        pieces = [
            _norms(base.tensor(name, rows), [expert.tensor(name, rows) for expert in fitting])
            for rows in blocks(base, name)
        ]
        norm, *norms = (math.hypot(*parts) for parts in zip(*pieces, strict=True))
        if not all(map(math.isfinite, (norm, *norms))):
            found = [fault for one in (base, *fitting) if (fault := finite_fault(one, name))]
            faults += [fault for fault in found if fault not in faults]
            norm, *norms = (
                _wide_norms(base.tensor(name), [expert.tensor(name) for expert in fitting])
                if not found
                else [0.0] * (1 + len(norms))
            )
        for expert, distance in zip(fitting, norms, strict=True):
            moved[expert.name] |= distance > 0
            if norm > 0 and len(info.shape) > 1:
                matrices[expert.name][name] = distance / norm
    for expert in experts:
        apart = [
            name
            for name, info in expert.tensors.items()
            if name not in base.tensors or not _alike(base.tensors[name], info)
        ]
        faults += [fault for name in apart if (fault := finite_fault(expert, name))]
    return {name: Distances(found, moved[name]) for name, found in matrices.items()}, faults


def _alike(ours: TensorInfo, theirs: TensorInfo) -> bool:
    floats = ours.dtype.is_floating_point and theirs.dtype.is_floating_point
    return ours.shape == theirs.shape and (floats or ours.dtype == theirs.dtype)


def _norms(base: Tensor, experts: Sequence[Tensor]) -> list[float]:
    """Returns the norms of a tensor of the base and of each expert's task vector in it; one that is not finite where a
    value is not, or a square overflows."""
    others = [
        expert.reshape(-1) for expert in experts if expert.data_ptr() != base.data_ptr()
    ]  # an adapter shares what it leaves alone
    flat, norm = base.reshape(-1), cast(Any, torch.linalg).vector_norm
    found: list[Tensor] = []
    # Written into the same two rows each time: chunks of this size from the allocator are fresh pages, which took five
    # times the pass.
    workspace = torch.empty(2, min(CHUNK, flat.numel()))
    for begin in range(0, flat.numel(), CHUNK):
        ours, difference = workspace[:, : flat.numel() - begin]
        found.append(norm(ours.copy_(flat[begin : begin + CHUNK])))
        found += [norm(torch.sub(theirs[begin : begin + CHUNK], ours, out=difference)) for theirs in others]
    if not found:
        return [0.0] * (1 + len(experts))
    squares = torch.stack(found).view(-1, 1 + len(others)).double().square().sum(0)
    norms = (float(one) for one in squares.sqrt())
    return [next(norms), *(0.0 if expert.data_ptr() == base.data_ptr() else next(norms) for expert in experts)]


def _wide_norms(base: Tensor, experts: Sequence[Tensor]) -> list[float]:
    """Returns what `_norms` does, in float64: of values whose squares overflow float32."""
    return [
        float(base.double().square().sum().sqrt()),
        *(float((expert.double() - base.double()).square().sum().sqrt()) for expert in experts),
    ]


def distance_warnings(distances: Mapping[str, Distances]) -> list[FitWarning]:
    """Returns what the distances of all experts of one base give away: one that is the base, one that seems made from
    another, matrices that do.

    Args:
        distances: by expert; an expert is held against the others from three on.
    """
    found: list[FitWarning] = []
    for name, one in distances.items():
        level = one.level()
        foreign = {tensor: value for tensor, value in one.matrices.items() if value >= FOREIGN}
        if not one.moved:
            found.append(
                FitWarning(
                    name,
                    "equal to the base",
                    "a fine-tuned copy",
                    "not one value that differs",
                    "merging it adds nothing: is this the right model?",
                )
            )
        elif level >= FOREIGN:
            expected = f"a median distance of its matrices below {FOREIGN} (a fine-tune has 0.001 to 0.1)"
            found.append(FitWarning(name, "perhaps not made from this base", expected, f"{level:.2f}", _ADVICE))
        elif (
            limit := _limit([other.level() for peer, other in distances.items() if peer != name])
        ) is not None and level > limit:
            found.append(
                FitWarning(
                    name,
                    "perhaps not made from this base",
                    f"a median distance of at most {limit:.2g}, as its peers",
                    f"{level:.2g}",
                    _ADVICE,
                )
            )
        elif foreign:
            first = next(iter(foreign))
            advice = "were they made anew, or resized? Leave the expert out if it was not trained from this base"
            found.append(
                FitWarning(
                    name,
                    f"{len(foreign)} of {len(one.matrices)} matrices seem made anew",
                    f"distances below {FOREIGN}",
                    f"{first!r} {foreign[first]:.2f}",
                    advice,
                )
            )
    return found


_ADVICE = (
    "see which base its model card names, and leave it out if that is another: task vectors from another base are noise"
)


def _limit(peers: Sequence[float]) -> float | None:
    """Returns the distance above which an expert is far from its peers, None with fewer than two that moved at all."""
    logs = [math.log(level) for level in peers if level > 0]
    if len(logs) < 2:
        return None
    middle = median(logs)
    spread = ROBUST * median(abs(value - middle) for value in logs)
    return max(NEAR, math.exp(middle + max(math.log(TIMES), DEVIATIONS * spread)))
