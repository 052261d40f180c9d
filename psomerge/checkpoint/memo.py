"""What was once made of a checkpoint's files, kept as long as the checkpoint is: tokenizers have megabytes of JSON, and
many ask for them."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from psomerge.checkpoint.reader import Checkpoint

T = TypeVar("T")


def remembered(make: Callable[[Checkpoint, Iterable[T]], T]) -> Callable[[Checkpoint], T]:
    """Returns a function that makes something of each checkpoint once; `make` also gets what others have given, to
    share what is equal."""
    known: WeakKeyDictionary[Checkpoint, T] = WeakKeyDictionary()

    @wraps(make)
    def ask(checkpoint: Checkpoint) -> T:
        if checkpoint not in known:
            known[checkpoint] = make(checkpoint, known.values())
        return known[checkpoint]

    return ask
