"""What lies below a prefix of S3, now and before, and what S3 knows of each file. `tasks.sources.s3.transfer` fetches
the files."""

import asyncio
import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psomerge.errors import ArtefactError
from psomerge.files.untrusted import MAX_ENTRIES
from psomerge.tasks.sources.s3.connection import Connection, Object, tag_of

WORKERS = 8
"""Requests at a time."""


@dataclass(frozen=True)
class Event:
    """A file that was written or removed, in a bucket that keeps versions."""

    name: str
    time: datetime
    written: Object | None


def listing(connection: Connection) -> dict[str, Object]:
    """Returns the files that lie directly below the prefix, by name as S3 sends it: not yet a path to write to.

    Raises:
        ArtefactError: no such bucket, or too many files.
        ServiceError: S3 cannot be reached or refuses.
    """
    entries = connection.run(_entries(connection, "list_objects_v2", ("ContinuationToken",), ("Contents",)))
    return {one["Key"]: Object(int(one["Size"]), tag_of(one)) for one in entries}


def history(connection: Connection) -> list[Event]:
    """Returns what was ever written or removed directly below the prefix, oldest first. Raises as `listing`."""
    entries = connection.run(
        _entries(connection, "list_object_versions", ("KeyMarker", "VersionIdMarker"), ("Versions", "DeleteMarkers"))
    )
    events = [
        Event(
            one["Key"],
            one["LastModified"],
            Object(int(one["Size"]), tag_of(one), one["VersionId"]) if "Size" in one else None,
        )
        for one in reversed(entries)  # S3 lists the newest version of a name first, and tells times in whole seconds
    ]
    return sorted(events, key=lambda event: event.time)


async def _entries(
    connection: Connection, method: str, marks: tuple[str, ...], kinds: tuple[str, ...]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    more: dict[str, str] = {}
    start = connection.prefix.key
    for _ in range(MAX_ENTRIES):  # pages: a server may send few entries on each, but not keep us for ever
        page = await connection.call(method, Prefix=start, Delimiter="/", **more)
        found += [one | {"Key": one["Key"].removeprefix(start)} for kind in kinds for one in page.get(kind, [])]
        if not page.get("IsTruncated"):
            return found
        if len(found) > MAX_ENTRIES:
            break
        more = {mark: page[f"Next{mark}"] for mark in marks if page.get(f"Next{mark}")}
    raise ArtefactError(
        f"{connection.prefix.address}: more than {MAX_ENTRIES} files; expected the prefix of one checkpoint"
    )


def examined(connection: Connection, objects: Mapping[str, Object]) -> dict[str, Object]:
    """Returns the objects with version and digests, where S3 has them.

    Raises:
        ArtefactError: one is no longer as it was listed.
        ServiceError: S3 cannot be reached or refuses.
    """

    async def every() -> list[Object]:
        gate = asyncio.Semaphore(WORKERS)
        return await asyncio.gather(*(_examined(connection, name, one, gate) for name, one in objects.items()))

    return dict(zip(objects, connection.run(every()), strict=True))


async def _examined(connection: Connection, name: str, one: Object, gate: asyncio.Semaphore) -> Object:
    async with gate:
        answer = await connection.ask("head_object", name, one, ChecksumMode="ENABLED")
    # Neither files encrypted with a key of their own nor those of directory buckets have an MD5 for ETag, though it
    # looks like one.
    other = answer.get("ServerSideEncryption", "AES256") != "AES256" or connection.prefix.bucket.endswith("--x-s3")
    md5 = one.etag if re.fullmatch("[0-9a-f]{32}", one.etag) and not other else None
    return replace(
        one, version=one.version or answer.get("VersionId"), sha256=_sha256(answer.get("ChecksumSHA256")), md5=md5
    )


def _sha256(text: str | None) -> str | None:
    """The digest in hex; None where there is none, or one that was made of the digests of parts."""
    return base64.b64decode(text).hex() if text and re.fullmatch(r"[A-Za-z0-9+/]{43}=", text) else None
