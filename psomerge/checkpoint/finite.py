"""Whether a checkpoint's values are numbers at all."""

import torch

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError

CHUNK = 2**15
"""Elements that are looked at together; torch looks at so few on one thread, which beside other threads' work is much
faster than on all."""


def check_finite(checkpoint: Checkpoint) -> None:
    """Raises ArtefactError naming the first tensor that holds NaN or an infinity, and how many."""
    for name in checkpoint.tensors:
        if fault := finite_fault(checkpoint, name):
            raise ArtefactError(fault)


def check_finite_tensor(tensor: torch.Tensor, where: str) -> None:
    """Raises ArtefactError, its text beginning with `where`, if a tensor (any shape, float dtype) holds NaN or an
    infinity."""
    if count := _not_finite(tensor):
        raise ArtefactError(_told(where, count))


def finite_fault(checkpoint: Checkpoint, name: str) -> str | None:
    """Returns words for a tensor that holds NaN or an infinity, None for one that holds none or is of integers."""
    info = checkpoint.tensors[name]
    count = _not_finite(checkpoint.tensor(name)) if info.dtype.is_floating_point else 0
    return _told(f'"{checkpoint.name}" ({checkpoint.folder / info.file}): tensor {name!r}', count) if count else None


def _told(where: str, count: int) -> str:
    return f"{where} holds {count} values that are NaN or infinite, expected none; train or fetch it again"


def _not_finite(tensor: torch.Tensor) -> int:
    chunks = torch.split(tensor.reshape(-1), CHUNK)
    # One pass without a workspace: NaN wins in both ends of a chunk, an infinity is one of them.
    ends = [end for chunk in chunks if chunk.numel() for end in chunk.aminmax()]
    if not ends or bool(torch.stack(ends).isfinite().all()):
        return 0
    return sum(chunk.numel() - int(chunk.isfinite().sum()) for chunk in chunks)
