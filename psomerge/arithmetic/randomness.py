"""Random numbers by address: the same address gives the same number for ever, on every machine, in any order.

There is no generator and no state, so a number never depends on how many were drawn before it.
"""

import hashlib
import json


def uniform(*address: int | str) -> float:
    """Returns a float64 in [0, 1), a multiple of 2**-53, drawn uniformly at `address`, e.g. `("swarm", seed, step,
    particle)`."""
    return (_word(address) >> 11) * 2.0**-53


def key32(*address: int | str) -> int:
    """Returns an unsigned 32-bit integer drawn uniformly at `address`: a key for integer hashes."""
    return _word(address) >> 32


def _word(address: tuple[int | str, ...]) -> int:
    # JSON keeps ("1", 2), (1, 2) and (12,) apart; plain concatenation would not.
    return int.from_bytes(hashlib.sha256(json.dumps(address, separators=(",", ":")).encode()).digest()[:8], "big")
