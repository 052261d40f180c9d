"""The journal of a run: an append-only file of JSON lines, each sealed and chained to the one before, each durable
before it counts.

The journal is the truth about a run; everything else is computed from it. Entries are a set: they may arrive in any
order, and a reader folds over them. A crash in the middle of a write leaves an unfinished last line, which the next
start drops. Every other damage is reported, never repaired.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psomerge.errors import SpaceError, StateError
from psomerge.files.durable import from_bytes, seal, sync, to_bytes, writing

logger = logging.getLogger(__name__)


class Journal:
    """A run's journal, open for appending by the one process that holds the run's lock. Threads of that process may
    share it."""

    def __init__(self, path: Path, key: str) -> None:
        """Opens or creates the journal of the run named by `key` and drops an unfinished last line.

        Raises:
            StateError: a line is damaged, missing, out of order or of another run.
            SpaceError: the file cannot be written.
        """
        self.path, self._key = path, key
        self._turn = threading.Lock()
        with writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            with writing(path):
                data = path.read_bytes()
            entries, size = parse(data, path, key), data.rfind(b"\n") + 1
            with writing(path):
                if size < len(data):
                    logger.warning(
                        "%s: dropped an unfinished last line of %d bytes, left by a crash", path, len(data) - size
                    )
                    os.ftruncate(self._file, size)
                    os.fsync(self._file)
                sync(path.parent)
        except BaseException:
            os.close(self._file)
            raise
        # Entry and the file's size after it (of the last line it counts), in one list: an interrupt finds both or
        # neither.
        self._lines = [(entry, size) for entry in entries]

    @property
    def entries(self) -> tuple[dict[str, Any], ...]:
        """All entries in the order of their lines."""
        return tuple(entry for entry, _ in self._lines)

    @property
    def head(self) -> str:
        """Digest of the last line; the run key while there is none."""
        return self._lines[-1][0]["sha256"] if self._lines else self._key

    def append(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Writes an entry durably and returns it as read back from JSON, with `previous` and `sha256` added.

        Args:
            entry: JSON data with a `kind`.

        Raises:
            ValueError: no kind, a reserved name, or a number that JSON has no word for.
            SpaceError: no room; the journal is as it was before.
            StateError: somebody else wrote to the file.
        """
        if "kind" not in entry or "previous" in entry:
            raise ValueError(f"a journal entry has a kind and no `previous` of its own; found {sorted(entry)}")
        with self._turn:
            sealed = seal({**entry, "previous": self.head})
            self._write(sealed)
        return sealed

    def last(self, kind: str) -> dict[str, Any] | None:
        """Returns the latest entry of a kind, or None."""
        return next((entry for entry, _ in reversed(self._lines) if entry["kind"] == kind), None)

    def close(self) -> None:
        """Closes the file; all entries are durable already."""
        os.close(self._file)

    def _write(self, sealed: dict[str, Any]) -> None:
        line, count, size = to_bytes(sealed), len(self._lines), self._lines[-1][1] if self._lines else 0
        found = os.fstat(self._file).st_size
        if found != size:
            raise StateError(
                f"{self.path}: expected {size} bytes, found {found}: something else wrote here; end it and run the "
                "same command again"
            )
        try:
            with writing(self.path):
                written = os.write(self._file, line)
                if written != len(line):
                    raise SpaceError(
                        f"{self.path}: wrote {written} of {len(line)} bytes; make room, then run the same command again"
                    )
                os.fsync(self._file)
            self._lines.append((sealed, size + len(line)))
        except BaseException:
            # Also for an interrupt: the file must never hold what `entries` does not, or the next line would follow
            # half a line.
            if len(self._lines) == count:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
            raise


def parse(data: bytes, path: Path, key: str) -> list[dict[str, Any]]:
    """Returns the entries in a journal's bytes, without an unfinished last line. Also for readers that hold no lock.

    Args:
        data: what the file holds.
        path: named in errors.
        key: of the run, the start of the chain.

    Raises:
        StateError: a line is damaged, missing, out of order or of another run.
    """
    entries: list[dict[str, Any]] = []
    previous = key
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            entry = from_bytes(line + b"\n")
        except ValueError as error:
            raise _damaged(path, number, str(error)) from error
        if entry.get("previous") != previous:
            raise _damaged(
                path, number, "it does not follow the line before: a line is missing, moved or of another run"
            )
        previous = entry["sha256"]
        entries.append(entry)
    return entries


def _damaged(path: Path, number: int, why: str) -> StateError:
    return StateError(
        f"{path}, line {number}: expected an entry as psomerge wrote it, found that {why}; "
        f"restore the file from a backup, or move the folder {path.parent} away and run the same command again to "
        "start anew"
    )
