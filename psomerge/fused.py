"""The one pass over memory that makes a merged tensor: written once in torch, run eagerly in chunks or compiled, with equal bits.

    theta = theta_0 + sum_i (a_i + m_i b_i / (1 - p)) (theta_i - theta_0)

Sums are float32, left to right, without fused multiply-add, and rounded once to the output's dtype.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy
import torch
from torch import Tensor

from psomerge.masks import kept, scatter

CHUNK = 2**15
"""Elements a chunk of the eager pass: base, experts and temporaries stay in the cache, and no second thread is woken."""


def merge_pass(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: Tensor, out: Tensor) -> None:
    """Writes the merged elements, rounded, into `out`.

    Args:
        base: (n,) any float dtype.
        experts: n_experts tensors (n,), any float dtypes.
        weights: (2, n_experts) float32: a_i, then b_i / (1 - p).
        keys: (2 + n_experts,) int32: the tensor's key, `masks.keep_threshold`, and every expert's key, of `masks.mask_keys`; None without DARE copies.
        start: () int32, index of the first element in the whole tensor, wrapped to 32 bits.
        out: (n,) any float dtype; shares no memory with the others.
    """
    origin = base.float()
    total = origin
    scattered = None if keys is None else scatter(torch.arange(base.numel(), dtype=torch.int32, device=base.device) + start, keys[0])
    for i, expert in enumerate(experts):
        weight = weights[0, i]
        if keys is not None and scattered is not None:
            weight = torch.where(kept(scattered, keys[2 + i], keys[1]), weight + weights[1, i], weight)
        total = total + weight * (expert.float() - origin)
    out.copy_(total)


@cache
def compiled_pass() -> Callable[..., None]:
    """Returns `merge_pass` compiled for any length. The first call takes seconds and needs a C++ compiler.

    An engine may have switched the compiler off for its own functions (TORCH_COMPILE_DISABLE); here it is on.
    """
    from torch._dynamo import config

    compiled = cast(Any, torch).compile(merge_pass, dynamic=True, fullgraph=True)

    def run(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: Tensor, out: Tensor) -> None:
        if config.disable:  # switching costs as much as half a call, and a model is hundreds of calls
            with cast(Any, config).patch(disable=False):
                return compiled(base, experts, weights, keys, start, out)
        return compiled(base, experts, weights, keys, start, out)

    return run


def chunked_pass(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: int, out: Tensor) -> None:
    """Runs `merge_pass` eagerly, chunk by chunk; `start` is not wrapped."""
    for begin in range(0, base.numel(), CHUNK):
        piece = slice(begin, begin + CHUNK)
        merge_pass(base[piece], [expert[piece] for expert in experts], weights, keys, wrapped(start + begin), out[piece])


def wrapped(index: int) -> Tensor:
    """Returns an index as () int32, its lower 32 bits."""
    return torch.tensor((index & 0xFFFFFFFF) - ((index & 0x80000000) << 1), dtype=torch.int32)


class Workspace:
    """Memory for tensors that are made one after the other. What nobody holds any more is used again: fresh pages cost as much as the pass itself.

    Between uses it keeps one block of every size asked for, so of a model one tensor of every shape.
    """

    def __init__(self) -> None:
        self._free: dict[int, numpy.ndarray] = {}

    def empty(self, count: int, dtype: torch.dtype) -> Tensor:
        """Returns a tensor (count,) of any content. It is the caller's for as long as it, or any view of it, lives."""
        size = count * dtype.itemsize
        block = self._free.pop(size, None)
        if block is None:
            block = numpy.empty(size, dtype=numpy.uint8)
        # A storage made by from_numpy holds its array: when the last tensor on it goes, so does this loan, and the block is free.
        loan = block[:]
        weakref.finalize(loan, self._free.__setitem__, size, block).atexit = False
        return cast(Any, torch).from_numpy(loan).view(dtype)
