"""Models of the hub as they lie in the home: `hf://ORG/NAME@REVISION` to a folder with the files of one commit, each proven.

    experts/hub/ORG/NAME/COMMIT/              plain files, no links: what a checkpoint reader takes
    experts/hub/ORG/NAME/COMMIT.json          written last: the SHA-256 of every file; sealed
    experts/hub/ORG/NAME/names/REVISION.json  the commit that a branch or tag was when it was first asked for; remove it to ask again

What is complete is used again without a question to the hub; `tasks.downloads` asks and fetches.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psomerge.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.errors import ConfigError, StateError
from psomerge.files import allowed, listing
from psomerge.pins import digest_file
from tasks.hub import COMMIT, Repository

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repository>(?P<org>\w[\w.-]{0,95})/(?P<name>\w[\w.-]{0,95}))(@(?P<revision>\w[\w.+/-]{0,199}))?", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """A commit's files in a local folder."""

    repository: str
    commit: str
    folder: Path
    files: Mapping[str, str]
    """SHA-256 in hex by name."""

    @property
    def address(self) -> str:
        """The immutable one."""
        return f"{PREFIX}{self.repository}@{self.commit}"


@dataclass(frozen=True)
class Place:
    """Where an address is kept."""

    repository: Repository
    revision: str
    """Branch, tag or commit."""
    folder: Path
    """Of the repository, with all its commits."""

    @property
    def name(self) -> Path:
        """The record of the commit that a branch or tag is."""
        return self.folder / "names" / f"{quote(self.revision, safe='')}.json"

    def commit(self) -> str | None:
        """Returns the commit that the revision is, or was when it was first asked for; None if it never was."""
        if COMMIT.fullmatch(self.revision):
            return self.revision
        return None if (known := _read(self.name)) is None else known["commit"]


def place_of(address: str, home: Path) -> Place:
    """Returns where an address is kept. Raises ConfigError for one that cannot be."""
    match = _ADDRESS.fullmatch(address)
    if not match or ".." in address or "//" in match["repository"]:
        raise ConfigError(f"{address}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, where REVISION is a branch, a tag or a commit; correct the address")
    revision = match["revision"] or "main"
    revision = revision.lower() if COMMIT.fullmatch(revision.lower()) else revision
    return Place(Repository(match["repository"], address), revision, home / "experts" / "hub" / match["org"] / match["name"])


def here(address: str, home: Path) -> Snapshot | None:
    """Returns the snapshot of an address if it is complete and unchanged; asks nobody.

    Raises:
        ConfigError: an address that cannot be.
        StateError: a record in the home is damaged.
    """
    place = place_of(address, home)
    return None if (commit := place.commit()) is None else _complete(place, commit)


def record_name(place: Place, commit: str) -> None:
    """Keeps which commit a branch or tag is. Raises SpaceError where that cannot be written."""
    with writing(place.name):
        place.name.parent.mkdir(exist_ok=True)
    _write(place.name, {"address": f"{PREFIX}{place.repository.name}@{place.revision}", "commit": commit})


def record(place: Place, commit: str, digests: Mapping[str, str]) -> Snapshot:
    """Keeps that the commit's folder holds exactly these files, proven and on disk, and returns it."""
    folder = place.folder / commit
    _write(place.folder / f"{commit}.json", {"files": {name: [digest, *_stamp(folder / name)] for name, digest in digests.items()}})
    return Snapshot(place.repository.name, commit, folder, digests)


def _stamp(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def _complete(place: Place, commit: str) -> Snapshot | None:
    """Returns the snapshot if every file is what was fetched: by size and time of change, and where these differ by SHA-256."""
    folder = place.folder / commit
    if (record := _read(place.folder / f"{commit}.json")) is None or not folder.is_dir():
        return None
    found = [name for name in listing(folder) if allowed(name)]
    stored = record["files"]
    if set(found) != set(stored):
        return None
    for name, (digest, *stamp) in stored.items():
        if _stamp(folder / name) != stamp and digest_file(folder / name) != digest:
            return None
    return Snapshot(place.repository.name, commit, folder, {name: entry[0] for name, entry in stored.items()})


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return from_bytes(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(f"{path}: {error}; remove it, then run the same command again: it asks the hub anew") from error


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_atomic(path, to_bytes(seal(content)))
