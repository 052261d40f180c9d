"""Which split an item belongs to, and which items a limit keeps: pure functions of names, without state or generator.

Items are split by their *group* (the passage or concept they come from), so that what the swarm sees, what the
re-ranking sees and what is reported share nothing, also across benchmarks and languages that are about the same
passages.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

SPLITS = ("optimisation", "validation", "test")


def position_of(*address: str) -> float:
    """Uniform number in [0, 1) that belongs to an address; the same on every machine.

    Args:
        address: strings, joined by "|"; the first is the salt or the seed.

    Returns:
        The first 53 bits of the address's SHA-256, scaled to [0, 1): every value is an exact float64.
    """
    digest = hashlib.sha256("|".join(address).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def split_of(salt: str, group: str, shares: Mapping[str, float]) -> str | None:
    """Name of the split that a group belongs to, or None for the remainder (training and few-shot examples).

    Args:
        salt: the suite's own; never the run's seed.
        group: cluster of the item: items of one group always land together.
        shares: share of each split, at least one of optimisation, validation, test, each in (0, 1), sum at most 1.

    Raises:
        ValueError: a split has another name, a share is out of range or the sum is over 1.
    """
    if unknown := sorted(set(shares) - set(SPLITS)):
        raise ValueError(f"expected shares of {', '.join(SPLITS)}, found {', '.join(unknown)}")
    if any(not 0 < share < 1 for share in shares.values()) or math.fsum(shares.values()) > 1:
        raise ValueError(f"expected shares in (0, 1) with a sum of at most 1, found {dict(shares)}")
    position, reached = position_of(salt, group), []
    for name in SPLITS:
        if name in shares:
            reached.append(shares[name])
            if position < math.fsum(reached):
                return name
    return None


def subsample(address: str, items: Sequence[str], limit: int | None) -> list[int]:
    """Indices, ascending, of the `limit` items with the smallest hash of (address, item); all of them without a limit.

    Growing the limit only adds items, and an item added to or taken from the data moves at most one other item in or
    out.

    Args:
        address: what the draw belongs to: the suite's salt, for the optimisation split together with the run's seed.
        items: stable identities, one an item.
        limit: at least 1, or None.
    """
    if limit is None or limit >= len(items):
        return list(range(len(items)))
    return sorted(sorted(range(len(items)), key=lambda index: (position_of(address, items[index]), index))[:limit])
