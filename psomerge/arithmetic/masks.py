"""DARE and magnitude masks as pure functions with addressed randomness: an element is kept or dropped by what it is,
not by when it was drawn.

Every mask is the same on every device, in every order, shard, chunk and thread count, and is never stored.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from psomerge.arithmetic.randomness import key32

_SIGN = -(2**31)
_CHUNK = 2**15


def mask_keys(seed: int, expert: str, tensor: str, block: int) -> tuple[int, int]:
    """Returns the two int32 keys of DARE's mask for one tensor of one expert: the tensor's, which all experts share,
    and the expert's, an odd multiplier.

    Args:
        seed: of all masks of a recipe.
        expert: its name in the recipe.
        tensor: its name in the checkpoint.
        block: which 2**32 elements of the tensor; 0 unless it is larger than that.
    """
    return key32("dare", seed, tensor, block) + _SIGN, (key32("dare", seed, expert, tensor, block) | 1) + _SIGN


def keep_threshold(drop_rate: float) -> int:
    """Returns the int32 below which a hash means 'keep': a share 1 - drop_rate of all values, to 2**-32.

    Raises:
        ValueError: drop_rate outside [0, 1).
    """
    if not 0 <= drop_rate < 1:
        raise ValueError(f"drop rate must lie in [0, 1), found {drop_rate}")
    return min(round((1 - drop_rate) * 2**32), 2**32 - 1) + _SIGN


def keep(index: Tensor, first: Tensor, second: Tensor, threshold: Tensor) -> Tensor:
    """Returns DARE's keep-mask m ~ Bernoulli(1 - p) of the elements at `index`.

    Args:
        index: (n,) int32, position in the flattened tensor, wrapped to 32 bits.
        first: () int32, the tensor's key, from `mask_keys`.
        second: () int32, the expert's.
        threshold: () int32, from `keep_threshold`.

    Returns:
        (n,) bool.

    Source: DARE (arXiv 2311.03099), section 3: m_i ~ Bernoulli(p) drops; the hash in place of a generator is ours.
    """
    return keep_scattered(scatter(index, first), second, threshold)


def scatter(index: Tensor, key: Tensor) -> Tensor:
    """Returns the hash (n,) int32 of `index` (n,) int32 under a tensor's key () int32: MurmurHash3's finaliser, a
    bijection.

    It is made once for all experts.
    """
    # int32 multiplication wraps and >> keeps the sign, so each shift is masked to act as an unsigned one.
    value = index ^ key
    value = (value ^ ((value >> 16) & 0xFFFF)) * -2048144789
    value = (value ^ ((value >> 13) & 0x7FFFF)) * -1028477387
    return value ^ ((value >> 16) & 0xFFFF)


def keep_scattered(scattered: Tensor, multiplier: Tensor, threshold: Tensor) -> Tensor:
    """Returns an expert's mask (n,) bool from `scatter`'s hash (n,) int32, the expert's odd multiplier () int32 and the
    threshold () int32.

    Several experts' products of one hash are the points of a lattice: with random multipliers it fills the cube of
    their values evenly, so that their masks are independent; one multiplication an expert instead of a hash of its own
    makes the pass nearly twice as fast.
    """
    return scattered * multiplier < threshold


def magnitude_threshold(delta: Callable[[slice], Tensor], count: int, density: float) -> float:
    """Returns the smallest magnitude among the `density` largest of |delta|: keep what is at least that (TIES, 'trim').

    Selects by a histogram of the upper 16 bits of the float32 magnitude, then exactly within one bin; never holds more
    than a piece of the task vector.

    Args:
        delta: gives any piece of the flattened task vector, (n,) float32, finite; asked for all of it twice.
        count: its elements, at least 1.
        density: share kept, in (0, 1].

    Raises:
        ValueError: density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must lie in (0, 1], found {density}")

    def magnitudes() -> Iterator[tuple[Tensor, Tensor]]:
        for begin in range(0, count, _CHUNK):
            bits = (
                delta(slice(begin, begin + _CHUNK)).abs().view(torch.int32)
            )  # for floats >= 0 the order of the bits is the order of the values
            yield bits, bits >> 16

    wanted = max(1, round(density * count))
    counts = torch.zeros(2**15, dtype=torch.int64)
    for _, upper in magnitudes():
        counts += torch.bincount(upper, minlength=2**15)
    covered = counts.flip(0).cumsum(0)
    position = int(
        torch.searchsorted(covered, wanted)
    )  # how many bins from the top until `wanted` elements are covered
    above = int(covered[position - 1]) if position else 0
    candidates = torch.cat([bits[upper == 2**15 - 1 - position] for bits, upper in magnitudes()])
    smallest = candidates.kthvalue(candidates.numel() - (wanted - above) + 1).values
    return float(smallest.view(torch.float32))
