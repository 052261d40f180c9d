"""Which files a revision of S3 consists of: what lies below the prefix now, or lay there once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from psomerge.errors import ArtefactError, ServiceError
from psomerge.files.digest import digest_of
from psomerge.screening.selection import checkpoint_files
from psomerge.tasks.sources.s3.connection import Connection, Object
from psomerge.tasks.sources.s3.listing import Event, examined, history, listing


def resolve(connection: Connection, revision: str | None) -> tuple[str, Mapping[str, Object]]:
    """Returns a revision and its files with what S3 knows of each.

    Args:
        connection: to S3.
        revision: 40 hex digits; None for what lies there now.

    Raises:
        ArtefactError: there is no checkpoint, or not that of the revision any more.
        ServiceError: S3 cannot be reached or refuses.
    """
    there = listing(connection)
    if revision is None:
        objects = checkpoint_files(connection.prefix.address, there)
        revision = _digits(objects)
    else:
        objects = _objects_of(connection, revision, there)
    return revision, examined(connection, objects)


def _objects_of(connection: Connection, revision: str, there: Mapping[str, Object]) -> dict[str, Object]:
    """The files of a revision: as they lie there, else as they once lay there, if the bucket keeps versions."""
    address, seen = connection.prefix.address, ""
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
        now = f"revision {_digits(checkpoint_files(address, there))}"
    raise ArtefactError(
        f"{address}: expected these files at {connection.prefix.url}, found {now}{seen}; restore them, or name the "
        "prefix without a revision"
    )


def _like(address: str, revision: str, files: Mapping[str, Object]) -> dict[str, Object] | None:
    with suppress(ArtefactError):
        objects = checkpoint_files(address, files)
        return objects if _digits(objects) == revision else None
    return None


def _digits(objects: Mapping[str, Object]) -> str:
    """The 40 hex digits that name these files: by names, sizes and ETags."""
    return digest_of({name: [one.size, one.etag] for name, one in objects.items()})[:40]


def _states(events: Sequence[Event]) -> Iterator[dict[str, Object]]:
    """Yields what lay there after each event."""
    state: dict[str, Object] = {}
    for event in events:
        if event.written:
            state[event.name] = event.written
        else:
            state.pop(event.name, None)
        yield state
