"""Addresses of the hub: `hf://ORG/NAME@REVISION` to the commit and the shelf in the home, `experts/hub/ORG/NAME`, that
keeps its files.

Asks nobody; `tasks.sources.hub.fetch` does.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ConfigError
from psomerge.tasks.sources.hub.client import COMMIT, Repository
from psomerge.tasks.sources.shelf.shelf import Shelf, Snapshot

PREFIX = "hf://"
_ADDRESS = re.compile(
    r"hf://(?P<repository>(?P<org>\w[\w.-]{0,95})/(?P<name>\w[\w.-]{0,95}))(@(?P<revision>\w[\w.+/-]{0,199}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Place:
    """Where an address is kept."""

    repository: Repository
    revision: str
    """Branch, tag or commit."""
    shelf: Shelf

    def commit(self) -> str | None:
        """Returns the commit that the revision is, or was when it was first asked for; None if it never was."""
        return self.revision if COMMIT.fullmatch(self.revision) else self.shelf.named(self.revision)


def place_of(address: str, home: Path) -> Place:
    """Returns where an address is kept. Raises ConfigError for one that cannot be."""
    match = _ADDRESS.fullmatch(address)
    if not match or ".." in address or "//" in match["repository"]:
        raise ConfigError(
            f"{address}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, where REVISION is a branch, a tag or a "
            "commit; correct the address"
        )
    revision = match["revision"] or "main"
    revision = revision.lower() if COMMIT.fullmatch(revision.lower()) else revision
    shelf = Shelf(PREFIX + match["repository"], home / "experts" / "hub" / match["org"] / match["name"])
    return Place(Repository(match["repository"], address), revision, shelf)


def here(address: str, home: Path) -> Snapshot | None:
    """Returns the snapshot of an address if it is complete and unchanged; asks nobody.

    Raises:
        ConfigError: an address that cannot be.
        StateError: a record in the home is damaged.
    """
    place = place_of(address, home)
    return None if (commit := place.commit()) is None else place.shelf.complete(commit)
