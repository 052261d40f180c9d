"""Models of the hub: `hf://ORG/NAME@REVISION`, kept in the home under `experts/hub/ORG/NAME`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ConfigError, ServiceError
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.cache.download import Revision
from psomerge.tasks.sources.cache.downloaded import Downloaded
from psomerge.tasks.sources.cache.selection import checkpoint_files
from psomerge.tasks.sources.hub.client import COMMIT, Repository, look_up
from psomerge.tasks.sources.hub.revision import revision_of
from psomerge.tasks.sources.origin import Scheme

_ADDRESS = re.compile(
    r"hf://(?P<repository>(?P<org>\w[\w.-]{0,95})/(?P<name>\w[\w.-]{0,95}))(@(?P<revision>\w[\w.+/-]{0,199}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class HubModel:
    """A `Remote`."""

    address: str
    repository: Repository
    revision: str
    """Branch, tag or commit."""

    @property
    def short(self) -> str:
        """NAME of ORG/NAME."""
        return self.repository.name.partition("/")[2]

    def cache(self, home: Path) -> Cache:
        """Returns where its commits are kept."""
        return Cache(f"hf://{self.repository.name}", home / "experts" / "hub" / self.repository.name)

    def known(self, cache: Cache) -> str | None:
        """Returns the commit that the revision is, or was when it was first asked for; None if it never was."""
        return self.revision if COMMIT.fullmatch(self.revision) else cache.revision_of(self.revision)

    @contextmanager
    def resolved(self, cache: Cache) -> Iterator[Revision]:
        """Yields the commit that is known, else the one that the revision is now; asks the hub."""
        known = self.known(cache)
        found = look_up(self.repository, known or self.revision)
        if known not in (None, found.commit):
            raise ServiceError(
                f"{self.address}: asked for commit {known}, the hub answers with {found.commit}; check HF_ENDPOINT"
            )

        def record() -> None:
            if self.known(cache) is None:
                cache.record_name(self.revision, found.commit)

        yield revision_of(self.repository, found.commit, checkpoint_files(self.address, found.files), record)


def _parse(address: str) -> Downloaded:
    match = _ADDRESS.fullmatch(address)
    if not match or ".." in address or "//" in match["repository"]:
        raise ConfigError(
            f"{address}: expected hf://ORG/NAME or hf://ORG/NAME@REVISION, where REVISION is a branch, a tag or a "
            "commit; correct the address"
        )
    revision = match["revision"] or "main"
    revision = revision.lower() if COMMIT.fullmatch(revision.lower()) else revision
    return Downloaded(HubModel(address, Repository(match["repository"], address), revision))


SCHEME = Scheme(("hf://ORG/NAME@REVISION",), _parse)
