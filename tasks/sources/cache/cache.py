"""The revisions of one model as they lie in the home, whatever they were fetched from.

    REVISION/              plain files, no links: what a checkpoint reader takes
    REVISION.json          written last: the SHA-256 of every file, and of the names that were taken; sealed

What is complete is used again without a question to its source; what was kept when fewer names belonged to a checkpoint
is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psomerge.checkpoint.pins import digest_file
from psomerge.errors import StateError
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.files.names import ALLOWED_DIGEST, allowed
from psomerge.files.untrusted import listing
from psomerge.tasks.sources.origin import Fetched


@dataclass(frozen=True)
class Cache:
    """Where the revisions of one model are kept."""

    address: str
    """Of the model, without a revision."""
    folder: Path
    """Of all its revisions; not there before the first is fetched."""

    def address_of(self, revision: str) -> str:
        """Returns the immutable address of a revision."""
        return f"{self.address}@{revision}"

    def latest(self) -> Fetched | None:
        """Returns the revision that was recorded last, of those that are here whole. Raises StateError for a damaged
        record."""
        records = [path for path in self.folder.glob("*.json") if path.name.count(".") == 1]
        records.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return next(filter(None, (self.snapshot(path.stem) for path in records)), None)

    def record(self, revision: str, digests: Mapping[str, str]) -> Fetched:
        """Keeps that the revision's folder holds exactly these files, proven and on disk, and returns it. Raises
        SpaceError."""
        folder = self.folder / revision
        files = {name: [digest, *_stamp(folder / name)] for name, digest in digests.items()}
        self.write(f"{revision}.json", {"names": ALLOWED_DIGEST, "files": files})
        return Fetched(folder, self.address_of(revision), revision, digests)

    def digests(self, revision: str) -> dict[str, str]:
        """Returns the SHA-256 of every file of a revision that was once complete, else nothing. Raises StateError for a
        damaged record."""
        return _digests(self._recorded(revision))

    def snapshot(self, revision: str) -> Fetched | None:
        """Returns a revision that is here whole, if every file is what was fetched: by size and time of change, and
        where these differ by SHA-256.

        Raises:
            StateError: the record is damaged.
        """
        folder, record = self.folder / revision, self._recorded(revision)
        stored = record.get("files", {})
        if not stored or not folder.is_dir() or record.get("names") != ALLOWED_DIGEST:
            return None
        if {name for name in listing(folder) if allowed(name)} != set(stored):
            return None
        for name, (digest, *stamp) in stored.items():
            if _stamp(folder / name) != stamp and digest_file(folder / name) != digest:
                return None
        return Fetched(folder, self.address_of(revision), revision, _digests(record))

    def _recorded(self, revision: str) -> Mapping[str, Any]:
        return self.read(f"{revision}.json") or {}

    def read(self, name: str) -> dict[str, Any] | None:
        """Returns a record, None where there is none. Raises StateError for a damaged one."""
        path = self.folder / name
        try:
            return from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StateError(
                f"{path}: {error}; remove it, then run the same command again: it asks for the model anew"
            ) from error

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Keeps a record, sealed. Raises SpaceError where that cannot be written."""
        path = self.folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, to_bytes(seal(content)))


def _digests(record: Mapping[str, Any]) -> dict[str, str]:
    return {name: digest for name, (digest, *_) in record.get("files", {}).items()}


def _stamp(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]
