"""Clients of services kept from telling, with addresses and headers, what they do: progress is told by us, and failures
are ours to word."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_changing = threading.Lock()
_inside: Counter[str] = Counter()
_levels: dict[str, int] = {}


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silences these loggers and those below them in the block; of blocks that overlap, in several threads, until the
    last one ends."""
    with _changing:
        for name in loggers:
            _inside[name] += 1
            if _inside[name] == 1:
                _levels[name] = logging.getLogger(name).level
                logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        with _changing:
            for name in loggers:
                _inside[name] -= 1
                if not _inside[name]:
                    logging.getLogger(name).setLevel(_levels.pop(name))
