"""A file that comes in blocks, in any order: what a killed process had finished is kept and is not fetched again."""

import os
from pathlib import Path

from psomerge.files.durable import sync, writing

BLOCK = 2**25
"""Bytes that are fetched by one request, and lost if the process dies during it."""


class Temporary:
    """A file in the making, with what is there of it already; its methods may be called from several threads.
    NAME.blocks beside it has a line for every block that is on the disk.

    Raises SpaceError, as its methods, where it cannot be written.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._done = path.with_name(f"{path.name}.blocks")
        with writing(path):
            if not path.exists() or path.stat().st_size != size:  # or begun by a process that died before this line
                self._done.unlink(missing_ok=True)
                path.touch()
                os.truncate(path, size)

    def lacking(self) -> list[range]:
        """Returns the blocks that are not on the disk yet, as ranges of bytes."""
        # What follows the last line break was cut off.
        kept = self._done.read_text().split("\n")[:-1] if self._done.exists() else []
        every = [range(start, min(start + BLOCK, self._size)) for start in range(0, self._size, BLOCK)]
        return [block for block in every if _line(block) not in kept]

    def write(self, start: int, content: bytes) -> None:
        """Puts bytes at an offset."""
        with writing(self._path), self._path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), content, start)

    def finish(self, block: range) -> None:
        """Keeps that a block is complete, after it is on the disk."""
        with writing(self._path):
            with self._path.open("r+b") as file:
                os.fdatasync(file.fileno())
            with self._done.open("a") as done:
                done.write(_line(block) + "\n")

    def publish(self, path: Path) -> None:
        """Gives the whole file its place and name."""
        with writing(path):
            with self._path.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(self._path, path)
            sync(path.parent)
            self._done.unlink(missing_ok=True)


def _line(block: range) -> str:
    return f"{block.start}-{block.stop}"
