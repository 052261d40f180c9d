"""What DARE does to the experts: the share kept and the norm of every sparsified copy, measured before the search uses
it."""

import math
from dataclasses import dataclass

import torch

from psomerge.arithmetic.masks import keep, keep_threshold, mask_keys
from psomerge.checkpoint.adapter import task_vector
from psomerge.merge.basis import Basis
from psomerge.merge.grouping import GROUPINGS


@dataclass(frozen=True)
class Sparsified:
    """One expert's DARE copy, over the tensors of one kind."""

    expert: str
    kind: str
    kept: float
    """Share of entries that the mask keeps; expected 1 - drop_rate."""
    norm_ratio: float
    """Norm of the copy's task vector over the expert's own; expected 1 / sqrt(1 - drop_rate). NaN where the task vector
    is zero."""


def sparsify(basis: Basis, drop_rate: float, mask_seed: int) -> list[Sparsified]:
    """Returns what the masks of this seed keep, by expert and kind of tensor (embedding, attention, feed-forward,
    norm).

    Args:
        basis: base and experts.
        drop_rate: p of DARE in [0, 1).
        mask_seed: of the masks; with it, expert and tensor name every mask is fixed.
    """
    rows: list[Sparsified] = []
    threshold = torch.tensor(keep_threshold(drop_rate), dtype=torch.int32)
    for expert in basis.experts:
        sums: dict[str, list[float]] = {}
        for name in basis.base.tensors:
            if not basis.base.tensors[name].dtype.is_floating_point:
                continue
            squares = task_vector(basis.base, expert, name)(slice(None)).double().square()
            first, second = (torch.tensor(key, dtype=torch.int32) for key in mask_keys(mask_seed, expert.name, name, 0))
            mask = keep(torch.arange(squares.numel(), dtype=torch.int32), first, second, threshold)
            entry = sums.setdefault(GROUPINGS["kinds"](name), [0.0, 0.0, 0.0, 0.0])
            for i, value in enumerate((squares.numel(), mask.sum(), squares.sum(), squares[mask].sum())):
                entry[i] += float(value)
        for kind, (count, kept, whole, part) in sums.items():
            ratio = math.sqrt(part / whole) / (1 - drop_rate) if whole else math.nan
            rows.append(Sparsified(expert.name, kind, kept / count, ratio))
    return rows
