"""The one pass over memory that makes a merged tensor: written once in torch, run eagerly in chunks or compiled, with
equal bits.

    theta = theta_0 + sum_i (a_i + m_i b_i / (1 - p)) (theta_i - theta_0)

Sums are float32, left to right, without fused multiply-add, and rounded once to the output's dtype.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, cast

import numpy
import torch
from torch import Tensor

from psomerge.arithmetic.masks import scatter

CHUNK = 2**15
"""Elements a chunk of the eager pass: base, experts and temporaries stay in the cache, and no second thread is
woken."""
COLUMNS, NARROW = 2**12, 2**6
"""Elements a row of the compiled pass, in large tensors and in small ones. The index of an element is its row's number
plus one of so many numbers that are read from the nearest cache: numbering each element by itself took as long as all
the rest of the pass."""


def merge_pass(
    base: Tensor,
    experts: Sequence[Tensor],
    weights: Tensor,
    keys: Tensor | None,
    index: Tensor | None,
    out: Tensor,
    products: int = 0,
) -> None:
    """Writes the merged elements, rounded, into `out`.

    Args:
        base: any shape, any float dtype.
        experts: n_experts tensors of that shape, any float dtypes.
        weights: (2, n_experts) float32: a_i, then b_i / (1 - p), none of them -0.0.
        keys: (2 + n_experts,) int32: the tensor's key, `masks.keep_threshold`, and every expert's key, of
            `masks.mask_keys`; None without DARE copies.
        index: int32 of the base's shape, each element's position in the whole tensor, wrapped to 32 bits; None without
            DARE copies.
        out: of the base's shape, any float dtype; shares no memory with the others.
        products: how many of the experts, the last ones, are given as their task vectors, float32.
    """
    origin = total = base.float()
    scattered = None if keys is None or index is None else scatter(index, keys[0])
    for i, expert in enumerate(experts):
        weight = weights[0, i]
        if keys is not None and scattered is not None:
            weight = choose(scattered * keys[2 + i], keys[1], weight, weights[1, i])
        step = (expert - origin).mul_(weight) if i < len(experts) - products else expert * weight
        total = step.add_(total)
    out.copy_(total)


def rows_pass(
    base: Tensor,
    experts: Sequence[Tensor],
    weights: Tensor,
    keys: Tensor | None,
    first: Tensor,
    columns: Tensor,
    out: Tensor,
    products: int,
) -> None:
    """Runs `merge_pass` over tensors (rows, n).

    Args:
        base, experts, weights, keys, out, products: as there.
        first: () int32, position of the first element, wrapped to 32 bits.
        columns: (n,) int32, 0 to n - 1.
    """
    rows = torch.arange(base.shape[0], dtype=torch.int32, device=base.device) * base.shape[1] + first
    merge_pass(base, experts, weights, keys, rows[:, None] + columns, out, products)


def choose(product: Tensor, threshold: Tensor, weight: Tensor, copy: Tensor) -> Tensor:
    """Returns weight + copy where DARE keeps an element (`masks.keep_scattered`), else weight; may overwrite `product`,
    shaped as the result."""
    if torch.compiler.is_compiling():
        return torch.where(product < threshold, weight + copy, weight)
    # Eager `where` goes element by element, 30 times slower than arithmetic. Neither weight is -0.0, so 0 * copy +
    # weight has weight's bits.
    return product.lt_(threshold).float().mul_(copy).add_(weight)


@cache
def compiled_pass() -> Callable[..., None]:
    """Returns `rows_pass` compiled for any number of rows above 1. The first call takes seconds and needs a C++
    compiler.

    An engine may have switched the compiler off for its own functions (TORCH_COMPILE_DISABLE); here it is on.
    """
    from torch._dynamo import config

    compiled = cast(Any, torch).compile(rows_pass, dynamic=True, fullgraph=True)
    if (
        not config.disable
    ):  # looking, or switching, at each of the hundreds of calls of a model costs as much as half a call
        return compiled

    def run(*arguments: Any) -> None:
        with cast(Any, config).patch(disable=False):
            compiled(*arguments)

    return run


def merge_compiled(
    flat: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: int, out: Tensor, products: int = 0
) -> None:
    """Runs the compiled pass over whole rows, and the eager one over what is left of a row.

    Args:
        flat: base and experts, (n,) each.
        weights, keys: as in `merge_pass`.
        start: position of the first element in the whole tensor, not wrapped.
        out: (n,).
        products: as in `merge_pass`.
    """
    count = out.numel()
    columns = COLUMNS if count >= 2 * COLUMNS else NARROW
    whole = count - count % columns
    if whole < 2 * columns:  # a single row would be compiled apart
        return merge_eager(flat, weights, keys, start, out, products)
    base, *experts, into = [(one if whole == count else one[:whole]).view(-1, columns) for one in (*flat, out)]
    compiled_pass()(base, experts, weights, keys, _wrapped(start), _numbers(out.device)[:columns], into, products)
    if whole < count:
        merge_eager([one[whole:] for one in flat], weights, keys, start + whole, out[whole:], products)


def merge_eager(
    flat: Sequence[Tensor], weights: Tensor, keys: Tensor | None, start: int, out: Tensor, products: int = 0
) -> None:
    """Runs `merge_pass` eagerly, chunk by chunk: base and experts in `flat`, and `out`, are (n,), `start` is where the
    first element stands in the whole tensor."""
    for begin in range(0, out.numel(), CHUNK):
        base, *experts, into = [one[begin : begin + CHUNK] for one in (*flat, out)]
        index = None if keys is None else _numbers(out.device)[: into.numel()] + _wrapped(start + begin)
        merge_pass(base, experts, weights, keys, index, into, products)


@cache
def _numbers(device: torch.device) -> Tensor:
    return torch.arange(CHUNK, dtype=torch.int32, device=device)


@lru_cache(maxsize=4096)
def _wrapped(index: int) -> Tensor:
    """Returns an index as () int32, its lower 32 bits."""
    return torch.tensor((index & 0xFFFFFFFF) - ((index & 0x80000000) << 1), dtype=torch.int32)


class Workspace:
    """Memory for tensors that are made one after the other. What nobody holds any more is used again: fresh pages cost
    as much as the pass itself.

    Between uses it keeps one block of every size asked for, so of a model one tensor of every shape.
    """

    def __init__(self) -> None:
        self._free: dict[int, numpy.ndarray] = {}

    def empty(self, count: int, dtype: torch.dtype) -> Tensor:
        """Returns a tensor (count,) of any content. It is the caller's for as long as it, or any view of it, lives."""
        size = count * dtype.itemsize
        if not size:
            return torch.empty(0, dtype=dtype)
        block = self._free.pop(size, None)
        if block is None:
            block = numpy.empty(size, dtype=numpy.uint8)
        # A storage made by from_numpy holds its array: when the last tensor on it goes, so does this loan, and the
        # block is free.
        loan = block[:]
        weakref.finalize(loan, self._free.__setitem__, size, block).atexit = False
        return cast(Any, torch).from_numpy(loan).view(dtype)
