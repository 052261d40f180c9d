"""A file that comes in blocks, in any order: what a killed process had finished is kept and is not fetched again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psomerge.files.durable import sync_folder, writing

BLOCK = 2**25
"""Bytes that are fetched by one request, and lost if the process dies during it."""


class Temporary:
    """A file in the making, opened by `temporary`. NAME.blocks beside it has a line for every block that is on the
    disk."""

    def __init__(self, path: Path, size: int, handle: int) -> None:
        self._path, self._size, self._handle = path, size, handle
        self._done = path.with_name(f"{path.name}.blocks")

    def lacking(self) -> list[range]:
        """Returns the blocks that are not on the disk yet, as ranges of bytes."""
        kept = (
            self._done.read_text().split("\n")[:-1] if self._done.exists() else []
        )  # what follows the last line break was cut off
        every = [range(start, min(start + BLOCK, self._size)) for start in range(0, self._size, BLOCK)]
        return [block for block in every if _line(block) not in kept]

    def write(self, start: int, content: bytes) -> None:
        """Puts bytes at an offset. Raises SpaceError."""
        with writing(self._path):
            os.pwrite(self._handle, content, start)

    def finish(self, block: range) -> None:
        """Keeps that a block is complete, after it is on the disk. Raises SpaceError."""
        with writing(self._path):
            os.fdatasync(self._handle)
            with self._done.open("a") as file:
                file.write(_line(block) + "\n")

    def publish(self, path: Path) -> None:
        """Gives the whole file its place and name. Raises SpaceError."""
        with writing(path):
            os.fsync(self._handle)
            os.replace(self._path, path)
            sync_folder(path.parent)
            self._done.unlink(missing_ok=True)


def _line(block: range) -> str:
    return f"{block.start}-{block.stop}"


@contextmanager
def temporary(path: Path, size: int) -> Iterator[Temporary]:
    """Yields the file at `path` of `size` bytes in the making, with what is there of it already. Raises SpaceError
    where it cannot be written."""
    with writing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.fstat(handle).st_size != size:  # new, or begun by a process that died before this line
            with writing(path):
                path.with_name(f"{path.name}.blocks").unlink(missing_ok=True)
                os.ftruncate(handle, size)
        yield Temporary(path, size, handle)
    finally:
        os.close(handle)
