"""What proves that a swap put the merged tensors, all of them and nothing else, into the running model.

Pure functions over tensors and numbers; knows no engine. One pass over each merged tensor gives its finiteness, its
fingerprint and its product with a fixed vector, which the model's own kernels must reproduce afterwards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from time import perf_counter

import torch
from torch import Tensor

from psomerge.checkpoint.header import TensorInfo

SAMPLED_ROWS = 64
"""Rows of embedding and head that are compared after a swap: a stale one differs in all of them."""


@dataclass(frozen=True)
class SwapReport:
    """How a swap went inside the worker."""

    faults: tuple[str, ...]
    """One line for each failed check; empty if all is well."""
    infinite: tuple[str, ...]
    """Names of tensors with a value that is not finite."""
    fingerprints: tuple[int, ...]
    """Of every tensor, in order: equal tensors have equal ones."""
    merge_seconds: float
    load_seconds: float


@dataclass(frozen=True)
class Swap:
    """A model that was in the engine: what it was made of, and what it answered."""

    fingerprints: tuple[int, ...]
    canary: tuple[float, ...]
    """Log-probabilities of the canary's tokens but the first, each given those before."""


class StreamCheck:
    """Watches the merged tensors on their way into the model."""

    def __init__(self, expected: Mapping[str, TensorInfo], vocabulary: int, dtype: torch.dtype) -> None:
        self._expected, self._vocabulary, self.dtype = expected, vocabulary, dtype
        self.rows = torch.linspace(0, vocabulary - 1, SAMPLED_ROWS).long().unique()
        self.vocabulary_rows: list[Tensor] = []
        """Sampled rows of every matrix with one row a token, in the engine's dtype."""
        self.products: dict[int, tuple[float, float]] = {}
        """Of all other matrices with k columns, by k: the sum of matrix @ probe(k) and the sum of magnitudes that it is
        made of."""
        self.fingerprints: dict[str, int] = {}
        self.seconds = 0.0
        """Spent on making and checking tensors."""
        self.infinite: list[str] = []
        """Names of tensors with a value that is not finite."""
        self._faults: list[str] = []

    def checked(self, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yields the tensors unchanged, noting what is wrong with them."""
        while True:
            start = perf_counter()
            pair = next(tensors, None)
            if pair is not None:
                self._note(*pair)
            self.seconds += perf_counter() - start
            if pair is None:
                return
            yield pair

    def faults(self) -> list[str]:
        """Returns one line for each tensor that was missing, unexpected or of another shape."""
        missing = [f"tensor {name!r} is missing" for name in self._expected if name not in self.fingerprints]
        return missing + self._faults

    def _note(self, name: str, tensor: Tensor) -> None:
        info = self._expected.get(name)
        if info is None or name in self.fingerprints:
            self._faults.append(f"tensor {name!r} is {'not one of the base' if info is None else 'made twice'}")
        elif info.shape != tuple(tensor.shape):
            self._faults.append(f"tensor {name!r} has shape {tuple(tensor.shape)}, the base has {info.shape}")
        self.fingerprints[name] = fingerprint(tensor)
        if not tensor.is_floating_point():
            return
        if (
            tensor.ndim == 2 and ".experts." not in name
        ):  # routed experts are no linear layers of vLLM's: it packs them together
            self._note_matrix(tensor)
        # A finite sum proves finite values in one pass; only a sum that is not needs the second look.
        if not torch.isfinite(tensor.sum(dtype=torch.float32)) and not bool(torch.isfinite(tensor).all()):
            self.infinite.append(name)

    def _note_matrix(self, matrix: Tensor) -> None:
        """Keeps what the kernels are compared with."""
        if matrix.shape[0] == self._vocabulary:
            self.vocabulary_rows.append(matrix[self.rows].to(self.dtype))
            return
        size = matrix.shape[1]
        held = matrix.to(self.dtype).float()
        columns, magnitudes = held.sum(0).double(), held.abs().sum(0).double()
        vector = probe(size, self.dtype).double()
        total, scale = self.products.get(size, (0.0, 0.0))
        self.products[size] = total + float(columns @ vector), scale + float(magnitudes @ vector.abs())


@cache
def probe(size: int, dtype: torch.dtype) -> Tensor:
    """Returns the fixed vector (size,) that matrices are multiplied with: values in [0.5, 1.5]."""
    return (1 + 0.5 * torch.sin(torch.arange(size, dtype=torch.float32) * 0.7 + 1)).to(dtype)


def fingerprint(tensor: Tensor) -> int:
    """Returns the sum of the tensor's bits, read as integers of its width: exact, and the same in any order."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return int(tensor.contiguous().view(integers).sum(dtype=torch.int64))


def rows_fault(name: str, expected: list[Tensor], found: Tensor) -> list[str]:
    """Returns a line if the embedding's sampled rows are, bit for bit, those of no matrix just made."""
    if any(torch.equal(rows, found) for rows in expected):
        return []
    return [f"embedding {name!r} is stale: its rows are not those of the merged tensors"]


def head_fault(name: str, expected: list[Tensor], found: Tensor) -> list[str]:
    """Returns a line if the head's logits for the probe are those of no matrix just made. `found`: (rows,)."""
    for rows in expected:
        vector = probe(rows.shape[1], rows.dtype).double()
        scale = rows.double().abs() @ vector.abs()
        if bool(((found.double() - rows.double() @ vector).abs() <= tolerance(rows.dtype) * scale).all()):
            return []
    return [f"head {name!r} is stale: its logits are not those of the merged tensors"]


def products_fault(computed: Mapping[int, float], stream: StreamCheck) -> list[str]:
    """Returns a line for each width at which the linear layers' products are not those of the merged matrices."""
    faults = []
    for size in sorted(computed.keys() | stream.products.keys()):
        total, scale = stream.products.get(size, (0.0, 0.0))
        if not abs(computed.get(size, 0.0) - total) <= tolerance(stream.dtype) * scale:
            faults.append(
                f"linear layers with {size} inputs are stale: their products are not those of the merged tensors"
            )
    return faults


def tolerance(dtype: torch.dtype) -> float:
    """Returns how far a dot product may lie from the exact one, relative to the sum of its terms' magnitudes: output
    rounding, and float32 sums."""
    return 2 * torch.finfo(dtype).eps + 16 * torch.finfo(torch.float32).eps


def canary_fault(swap: Swap, before: Swap | None, same: Swap | None) -> str | None:
    """Returns what the canary's answers prove to be wrong, or None.

    Args:
        swap: the model just put in.
        before: the one it replaced.
        same: one made of the same tensors earlier.
    """
    strange = [value for value in swap.canary if not -1e4 < value <= 0]
    if strange or not swap.canary:
        return f"the canary's log-probabilities must be finite and at most 0, found {strange[0] if strange else 'none'}"
    if same is not None and same.canary != swap.canary:
        return "equal tensors gave another canary than before: something of another model is left in the engine"
    if before is None or before.canary != swap.canary:
        return None
    changed = sum(now != then for now, then in zip(swap.fingerprints, before.fingerprints, strict=True))
    if 2 * changed <= len(swap.fingerprints):
        return None  # a step below the rounding of the checkpoint's dtype leaves (nearly) the same model
    return (
        f"{changed} of {len(swap.fingerprints)} tensors changed, the canary did not: the engine computes with the "
        "model before"
    )
