"""The one pass over memory that makes a merged tensor: written once in torch, run eagerly in chunks or compiled, with equal bits.

    theta = theta_0 + sum_i (a_i + m_i b_i / (1 - p)) (theta_i - theta_0)

Sums are float32, left to right, without fused multiply-add; the caller rounds once.
"""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from psomerge.masks import keep

CHUNK = 2**15
"""Elements a chunk of the eager pass: base, experts and temporaries stay in the cache, and no second thread is woken."""


def merge_pass(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: Tensor) -> Tensor:
    """Returns the merged elements.

    Args:
        base: (n,) any float dtype.
        experts: n_experts tensors (n,), any float dtypes.
        weights: (2, n_experts) float32: a_i, then b_i / (1 - p).
        keys: (2, n_experts) int32 of `masks.mask_keys` followed by a column with `masks.keep_threshold` twice: (2, n_experts + 1); None without DARE copies.
        start: () int32, index of the first element in the whole tensor, wrapped to 32 bits.

    Returns:
        (n,) float32.
    """
    origin = base.float()
    total = origin
    index = None if keys is None else torch.arange(base.numel(), dtype=torch.int32, device=base.device) + start
    for i, expert in enumerate(experts):
        weight = weights[0, i]
        if keys is not None and index is not None:
            weight = torch.where(keep(index, keys[0, i], keys[1, i], keys[0, -1]), weight + weights[1, i], weight)
        total = total + weight * (expert.float() - origin)
    return total


@cache
def compiled_pass() -> Callable[..., Tensor]:
    """Returns `merge_pass` compiled for any length. The first call takes seconds and needs a C++ compiler.

    An engine may have switched the compiler off for its own functions (TORCH_COMPILE_DISABLE); here it is on.
    """
    from torch._dynamo import config

    compiled = torch.compile(merge_pass, dynamic=True, fullgraph=True)

    def run(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: Tensor) -> Tensor:
        with config.patch(disable=False):
            return compiled(base, experts, weights, keys, start)

    return run


def chunked_pass(base: Tensor, experts: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: int, out: Tensor) -> None:
    """Runs `merge_pass` eagerly, chunk by chunk, rounding into `out` (n,), any float dtype."""
    for begin in range(0, base.numel(), CHUNK):
        piece = slice(begin, begin + CHUNK)
        out[piece] = merge_pass(base[piece], [expert[piece] for expert in experts], weights, keys, wrapped(start + begin))


def wrapped(index: int) -> Tensor:
    """Returns an index as () int32, its lower 32 bits."""
    return torch.tensor((index & 0xFFFFFFFF) - ((index & 0x80000000) << 1), dtype=torch.int32)
