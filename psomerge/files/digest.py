"""One digest for JSON data: what names runs, recipes, judgements and evaluation sets."""

import hashlib
import json


def digest_of(content: object) -> str:
    """Returns the SHA-256 in hex of canonical JSON (sorted keys, no blanks). Raises ValueError for NaN and
    infinities."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()
