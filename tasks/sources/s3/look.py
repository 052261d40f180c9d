"""A model of S3 that is not here yet, seen without its weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.locking import lock
from psomerge.tasks.sources.s3 import address as s3_snapshots
from psomerge.tasks.sources.s3 import fetch as s3_downloads
from psomerge.tasks.sources.s3.connection import Connection, Object, connected
from psomerge.tasks.sources.s3.transfer import read_start
from psomerge.tasks.sources.shelf.filling import Progress
from psomerge.tasks.sources.shelf.headers import Look, Source, kept, look


def see(
    address: str, name: str, home: Path, base: Checkpoint | None, progress: Progress
) -> tuple[str, Look, Callable[[], None]]:
    """Returns the address with the revision, what is known of that, and what records that the address means it.

    Args:
        address: `s3://BUCKET/PREFIX` or `s3://BUCKET/PREFIX@REVISION`.
        name, base: as of `tasks.sources.shelf.headers.kept`.
        home: PSOMERGE_HOME.
        progress: told where another process has to be waited for.

    Raises:
        PsomergeError: as `tasks.sources.s3.fetch.fetch` and `tasks.sources.shelf.headers.look`.
    """
    place = s3_snapshots.place_of(address, home)
    shelf, revision = place.shelf, place.revision()
    seen = kept(shelf, revision, name, base) if revision else None
    listed: dict[str, Object] = {}
    if revision is None or seen is None:
        with lock(shelf.folder, f"fetches {address}", progress), connected(place.prefix) as connection:
            revision, objects = s3_downloads.resolve(place, connection)
            listed |= objects
            seen = kept(shelf, revision, name, base) or _look(place, connection, revision, objects, name, base)

    def keep() -> None:
        with lock(shelf.folder, f"fetches {address}", progress):
            if listed and place.recorded(revision) is None:
                place.record(revision, listed)

    return shelf.address_of(revision), seen, keep


def _look(
    place: s3_snapshots.Place,
    connection: Connection,
    revision: str,
    objects: Mapping[str, Object],
    name: str,
    base: Checkpoint | None,
) -> Look:
    source = Source(
        s3_downloads.origin_of(place, connection, revision, objects),
        start=lambda file, count: read_start(connection, file, objects[file], count),
        same=lambda file, path: s3_downloads.proven(path, objects[file]),
    )
    return look(source, place.shelf, revision, name, base)
