"""A model of the hub that is not here yet, seen without its weights."""

from collections.abc import Callable
from pathlib import Path

from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.locking import lock
from psomerge.tasks.sources.hub import address as snapshots
from psomerge.tasks.sources.hub import client as hub
from psomerge.tasks.sources.hub import fetch as downloads
from psomerge.tasks.sources.shelf.choice import wanted
from psomerge.tasks.sources.shelf.filling import Progress
from psomerge.tasks.sources.shelf.headers import Look, Source, kept, look


def see(
    address: str, name: str, home: Path, base: Checkpoint | None, progress: Progress
) -> tuple[str, Look, Callable[[], None]]:
    """Returns the address with the commit, what is known of that, and what records that the address means it.

    Args:
        address: `hf://ORG/NAME` or `hf://ORG/NAME@REVISION`.
        name, base: as of `tasks.sources.shelf.headers.kept`.
        home: PSOMERGE_HOME.
        progress: told where another process has to be waited for.

    Raises:
        PsomergeError: as `tasks.sources.hub.fetch.fetch` and `tasks.sources.shelf.headers.look`.
    """
    place = snapshots.place_of(address, home)
    shelf, commit = place.shelf, place.commit()
    seen = kept(shelf, commit, name, base) if commit else None
    if commit is None or seen is None:
        with lock(shelf.folder, f"fetches {address}", progress):
            commit, seen = _look(place, name, base)

    def keep() -> None:
        with lock(shelf.folder, f"fetches {address}", progress):
            if place.commit() is None:
                shelf.record_name(place.revision, commit)

    return shelf.address_of(commit), seen, keep


def _look(place: snapshots.Place, name: str, base: Checkpoint | None) -> tuple[str, Look]:
    revision = downloads.resolve(place)
    commit = revision.commit
    if seen := kept(place.shelf, commit, name, base):
        return commit, seen
    files = wanted(place.repository.address, revision.files)
    source = Source(
        downloads.origin_of(place, commit, files),
        start=lambda file, count: hub.read_start(place.repository, commit, file, count),
        same=lambda file, path: (
            bool(files[file].sha256 or files[file].blob) and downloads.mismatch(path, files[file]) is None
        ),
    )
    return commit, look(source, place.shelf, commit, name, base)
