"""Low-rank products: what a LoRA adapter adds to one tensor, made block by block while that tensor is."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from psomerge.arithmetic.fused import COLUMNS

BLOCK = 2**18
"""Elements of a product that are made together: 1 MiB, so that it is merged from the cache."""


@dataclass(frozen=True)
class LowRank:
    """scale * left @ right, what an adapter adds to one tensor of the base."""

    left: Tensor
    """(rows, rank), as stored: a view on the mapped file."""
    right: Tensor
    """(rank, columns)."""
    scale: float

    def blocks(self, rows: slice | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yields the product in float32 by blocks of rows, each with the number of its first row in the whole tensor.

        Any range of rows has the bits that it has in the whole: blocks are counted from the tensor's first row, and a
        part of one is cut from all of it.

        Args:
            rows: a range of rows; None is all.
        """
        begin, end, _ = (rows or slice(None)).indices(self.left.shape[0])
        size, right = _block_rows(self.right.shape[1]), self.right.float()
        for first in range(begin - begin % size, end, size):
            block = (self.left[first : first + size].float() @ right).mul_(self.scale)
            inside = slice(max(begin - first, 0), min(end - first, size))
            yield first + inside.start, block[inside]

    def product(self, rows: slice | None = None) -> Tensor:
        """Returns the product, or a range of its rows, in float32."""
        return (
            torch.cat([block for _, block in self.blocks(rows)])
            if self.left.shape[0]
            else self.left.float() @ self.right.float()
        )


def weighted_sum(products: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
    """Returns sum_i w_i scale_i left_i right_i as one product of the factors side by side: exact, and one
    multiplication for all."""
    left = torch.cat(
        [one.left.float() * (weight * one.scale) for one, weight in zip(products, weights, strict=True)], 1
    )
    return LowRank(left, torch.cat([one.right.float() for one in products]), 1.0)


def _block_rows(columns: int) -> int:
    """Rows of a product that are made together: about BLOCK elements, a multiple of COLUMNS where that takes no more
    than four times as many."""
    step = COLUMNS // math.gcd(columns, COLUMNS)
    return max(step, BLOCK // columns // step * step) if step * columns <= 4 * BLOCK else max(1, BLOCK // columns)
