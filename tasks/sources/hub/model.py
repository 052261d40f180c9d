"""Models of the hub: `hf://ORG/NAME@REVISION`, kept in the home under `experts/hub/ORG/NAME`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ConfigError, ServiceError
from psomerge.screening.selection import checkpoint_files
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.cache.download import Revision
from psomerge.tasks.sources.cache.downloaded import Downloaded
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
    def pinned(self) -> str | None:
        """The commit that the address names."""
        return self.revision if COMMIT.fullmatch(self.revision) else None

    @property
    def short(self) -> str:
        """NAME of ORG/NAME."""
        return self.repository.name.partition("/")[2]

    def cache(self, home: Path) -> Cache:
        """Returns where its commits are kept."""
        return Cache(f"hf://{self.repository.name}", home / "experts" / "hub" / self.repository.name)

    def current(self, cache: Cache) -> str:
        """Returns the commit that the branch or tag is now; asks the hub."""
        return look_up(self.repository, self.revision).commit

    def at(self, revision: str) -> "HubModel":
        """Returns the repository at a commit."""
        address = f"hf://{self.repository.name}@{revision}"
        return HubModel(address, Repository(self.repository.name, address), revision)

    @contextmanager
    def opened(self, cache: Cache) -> Iterator[Revision]:
        """Yields the commit; asks the hub."""
        found = look_up(self.repository, self.revision)
        if found.commit != self.revision:
            raise ServiceError(
                f"{self.address}: asked for commit {self.revision}, the hub answers with {found.commit}; check "
                "HF_ENDPOINT"
            )
        yield revision_of(self.repository, found.commit, checkpoint_files(self.address, found.files))


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
