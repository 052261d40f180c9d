"""Models that are downloaded, revision by revision, into a cache in the home: what the hub and S3 have in common."""

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psomerge.errors import ServiceError, StateError
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
        """As of `tasks.sources.origin.Origin`."""
        ...

    @property
    def short(self) -> str:
        """As of `tasks.sources.origin.Origin`."""
        ...

    @property
    def pinned(self) -> str | None:
        """The revision that the address names; None where it means one that can move."""
        ...

    def cache(self, home: Path) -> Cache:
        """Returns where its revisions are kept."""
        ...

    def current(self, cache: Cache) -> str:
        """Returns the revision that the address means now; asks the source.

        Raises:
            PsomergeError: as `tasks.sources.origin.Origin.fetch`.
        """
        ...

    def at(self, revision: str) -> "Remote":
        """Returns the same model, pinned."""
        ...

    def opened(self, cache: Cache) -> AbstractContextManager[Revision]:
        """Yields the pinned revision; asks the source.

        Raises:
            PsomergeError: as `tasks.sources.origin.Origin.fetch`.
        """
        ...


@dataclass(frozen=True)
class Downloaded:
    """The `Origin` of a model somewhere else."""

    remote: Remote

    @property
    def address(self) -> str:
        """As given."""
        return self.remote.address

    @property
    def short(self) -> str:
        """The model's name."""
        return self.remote.short

    def resolve(self, access: Access) -> "Downloaded":
        """Returns the model at the revision that the address means now."""
        if self.remote.pinned:
            return self
        cache = self.remote.cache(access.home)
        try:
            return Downloaded(self.remote.at(self.remote.current(cache)))
        except ServiceError as error:
            with suppress(StateError):
                if here := cache.latest():
                    raise ServiceError(
                        f"{error}; or name {here.source}, the revision that was fetched last, to ask nobody"
                    ) from error
            raise

    def cached(self, home: Path) -> Fetched | None:
        """Returns the revision if it is here, complete and unchanged; asks nobody."""
        return self.remote.cache(home).snapshot(self.remote.pinned) if self.remote.pinned else None

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns the revision without its weights, from headers that are kept, else fetched."""
        from psomerge.tasks.sources.cache.headers import cached_preview, fetched_preview

        assert self.remote.pinned
        cache = self.remote.cache(access.home)
        if seen := cached_preview(cache, self.remote.pinned, name, base):
            return seen
        with self._locked(access), self.remote.opened(cache) as revision:
            return cached_preview(cache, revision.name, name, base) or fetched_preview(revision, cache, name, base)

    def fetch(self, access: Access) -> Fetched:
        """Returns the revision, after downloading what is not there or not as it was."""
        if found := self.cached(access.home):
            return found
        with self._locked(access):
            if found := self.cached(access.home):
                return found
            cache = self.remote.cache(access.home)
            with self.remote.opened(cache) as revision:
                return download(revision, cache, access.progress)

    def _locked(self, access: Access) -> AbstractContextManager[None]:
        folder = self.remote.cache(access.home).folder
        return lock(folder, f"fetches {self.remote.address}", access.progress)
