"""A model of S3 that is not here yet: listed once, fetched file by file, and proven by the digests that S3 has and by
our own from the first fetch on."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from psomerge.checkpoint.pins import BLOCK
from psomerge.errors import ArtefactError, ServiceError
from psomerge.files.locking import lock
from psomerge.tasks.sources.s3.address import Place, here, place_of, revision_of
from psomerge.tasks.sources.s3.connection import Connection, Object, connected
from psomerge.tasks.sources.s3.errors import ChangedError
from psomerge.tasks.sources.s3.listing import Event, examined, history, listing
from psomerge.tasks.sources.s3.transfer import NOTES, download
from psomerge.tasks.sources.shelf.choice import wanted
from psomerge.tasks.sources.shelf.filling import Checked, Origin, Progress, fill, in_parallel, origin
from psomerge.tasks.sources.shelf.shelf import Snapshot


def fetch(address: str, home: Path, progress: Progress) -> Snapshot:
    """Returns the snapshot of an address, after downloading what is not there or not as it was.

    Args:
        address: `s3://BUCKET/PREFIX` or `s3://BUCKET/PREFIX@REVISION`.
        home: PSOMERGE_HOME.
        progress: called with what is being done and the share done, in [0, 1].

    Raises:
        ConfigError, StateError: as `here`; or s3fs is not installed.
        ArtefactError: no such bucket or revision, no checkpoint there, or files that are not those that were listed.
        ServiceError, SpaceError: S3 cannot be reached or refuses; no room.
    """
    if found := here(address, home):
        return found
    place = place_of(address, home)
    with lock(place.shelf.folder, f"fetches {address}", progress):
        if found := here(address, home):
            return found
        try:
            with connected(place.prefix) as connection:
                revision, objects = resolve(place, connection)
                place.record(revision, objects)
                return fill(origin_of(place, connection, revision, objects), place.shelf, revision, progress)
        except ChangedError as error:
            if not place.pinned and not _complete_once(place):
                place.name.unlink(missing_ok=True)  # nothing was made of what was listed: what is there now will do
            raise ChangedError(f"{error}; {_advice(place)}") from None


def resolve(place: Place, connection: Connection) -> tuple[str, Mapping[str, Object]]:
    """Returns the revision that an address means, or meant when it was first asked for, and its files.

    Raises:
        ArtefactError: there is no checkpoint, or not that of the revision any more.
        ServiceError: S3 cannot be reached or refuses.
    """
    revision = place.revision()
    if revision and (known := place.recorded(revision)):
        return revision, known
    there = listing(connection)
    if revision is None:
        objects = wanted(place.prefix.address, there)
        revision = revision_of(objects)
    else:
        objects = _objects_of(place, connection, revision, there)
    return revision, examined(connection, objects)


def _objects_of(place: Place, connection: Connection, revision: str, there: Mapping[str, Object]) -> dict[str, Object]:
    """The files of a revision: as they lie there, else as they once lay there, if the bucket keeps versions."""
    address, seen = place.prefix.address, ""
    if objects := _like(address, revision, there):
        return objects
    try:
        for state in _states(history(connection)):
            if objects := _like(address, revision, state):
                return objects
    except ServiceError:
        seen = ", and S3 does not show its earlier versions"
    now = "no checkpoint"
    with suppress(ArtefactError):
        now = f"revision {revision_of(wanted(address, there))}"
    raise ArtefactError(
        f"{address}: expected these files at {place.shelf.address}, found {now}{seen}; restore them, or name the "
        "prefix without a revision"
    )


def _like(address: str, revision: str, files: Mapping[str, Object]) -> dict[str, Object] | None:
    with suppress(ArtefactError):
        objects = wanted(address, files)
        return objects if revision_of(objects) == revision else None
    return None


def _states(events: Sequence[Event]) -> Iterator[dict[str, Object]]:
    """Yields what lay there after each event."""
    state: dict[str, Object] = {}
    for event in events:
        if event.written:
            state[event.name] = event.written
        else:
            state.pop(event.name, None)
        yield state


def _complete_once(place: Place) -> bool:
    revision = place.revision()
    return revision is not None and bool(place.shelf.recorded(revision))


def _advice(place: Place) -> str:
    if place.pinned:
        return "restore it, or name the prefix without a revision"
    if _complete_once(place):
        return f"restore it, or remove {place.name} to take what is there now"
    return "run the same command again, when nobody writes there, to take what is there now"


def origin_of(place: Place, connection: Connection, revision: str, objects: Mapping[str, Object]) -> Origin:
    """Returns S3 as what a revision's files are fetched from; a file that is there already and is not what it should be
    is fetched anew."""
    known = place.shelf.recorded(revision)

    def check(path: Path) -> Checked:
        return _checked(path, objects[path.name], known.get(path.name))

    def get(names: Sequence[str], folder: Path, told: Callable[[int], None], then: Callable[[str], None]) -> None:
        for path, found in in_parallel(check, [folder / name for name in names if (folder / name).exists()]).items():
            if found.problem:
                path.unlink()
        download(connection, {name: objects[name] for name in names}, folder, told, then)

    return origin(
        place.prefix.address, {name: one.size for name, one in objects.items()}, get, check, Path.unlink, notes=NOTES
    )


def proven(path: Path, one: Object) -> bool:
    """Returns whether a file has the content of an object, by a digest that S3 has of it."""
    return bool(one.sha256 or one.md5) and not _checked(path, one, None).problem


def _checked(path: Path, one: Object, known: str | None) -> Checked:
    """A file held against its size, the digests that S3 has of it, and the SHA-256 that it had when it was first
    fetched."""
    if (size := path.stat().st_size) != one.size:
        return Checked("", f"expected {one.size} bytes, found {size}")
    expected, sha256, md5 = known or one.sha256, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            if one.md5 and not expected:
                md5.update(block)
    found = sha256.hexdigest()
    if expected and found != expected:
        return Checked("", f"expected SHA-256 {expected}, found {found}")
    if one.md5 and not expected and md5.hexdigest() != one.md5:
        return Checked("", f"expected MD5 {one.md5}, found {md5.hexdigest()}")
    return Checked(found, None)
