"""Models that are downloaded, revision by revision, into a cache in the home: what the hub and S3 have in common."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psomerge.files.locking import lock
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.cache.download import Revision, download
from psomerge.tasks.sources.origin import Access, Fetched, Preview

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint


class Remote(Protocol):
    """A model somewhere else."""

    @property
    def address(self) -> str:
        """As the user gave it."""
        ...

    @property
    def short(self) -> str:
        """As of `tasks.sources.origin.Origin`."""
        ...

    def cache(self, home: Path) -> Cache:
        """Returns where its revisions are kept."""
        ...

    def known(self, cache: Cache) -> str | None:
        """Returns the revision that the address names, or meant when it was first asked for; None if it never was.
        Raises StateError for a damaged record."""
        ...

    def resolved(self, cache: Cache) -> AbstractContextManager[Revision]:
        """Yields the revision that is known, else the one that the address means now; asks the source.

        Raises:
            PsomergeError: as `tasks.sources.origin.Origin.fetch`.
        """
        ...


@dataclass(frozen=True)
class Downloaded:
    """The `Origin` of a model somewhere else."""

    remote: Remote

    @property
    def short(self) -> str:
        """The model's name."""
        return self.remote.short

    def cached(self, home: Path) -> Fetched | None:
        """Returns the revision that is meant if it is here, complete and unchanged; asks nobody."""
        cache = self.remote.cache(home)
        return None if (revision := self.remote.known(cache)) is None else cache.snapshot(revision)

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns the revision that is meant without its weights, from headers that are kept, else fetched."""
        from psomerge.tasks.sources.cache.headers import cached_preview, fetched_preview

        cache = self.remote.cache(access.home)
        revision = self.remote.known(cache)
        if revision and (seen := cached_preview(cache, revision, name, base)):
            return seen
        with self._locked(access), self.remote.resolved(cache) as found:
            seen = cached_preview(cache, found.name, name, base) or fetched_preview(found, cache, name, base)
        return replace(seen, keep=lambda: self._record(access, found.record))

    def fetch(self, access: Access) -> Fetched:
        """Returns the revision that is meant, after downloading what is not there or not as it was."""
        if found := self.cached(access.home):
            return found
        with self._locked(access):
            if found := self.cached(access.home):
                return found
            cache = self.remote.cache(access.home)
            with self.remote.resolved(cache) as revision:
                revision.record()
                return download(revision, cache, access.progress)

    def _record(self, access: Access, record: Callable[[], None]) -> None:
        with self._locked(access):
            record()

    def _locked(self, access: Access) -> AbstractContextManager[None]:
        folder = self.remote.cache(access.home).folder
        return lock(folder, f"fetches {self.remote.address}", access.progress)
