"""One process at a time: with a file, or in a folder that several may fill."""

import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from psomerge.files.durable import writing


@contextmanager
def exclusive(path: Path) -> Generator[None]:
    """Holds a kernel lock on a file, made where it is missing, in the block; waits until nobody else does. Raises
    OSError."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def lock(folder: Path, doing: str, progress: Callable[[str, float], None]) -> Generator[None]:
    """Makes a folder and keeps other processes from filling it meanwhile.

    Args:
        folder: to be filled.
        doing: what the others do, e.g. "fetches the model".
        progress: told where one has to be waited for.

    Raises:
        SpaceError: the folder cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that {doing}", 0.0)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
