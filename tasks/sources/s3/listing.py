"""What lies below a prefix of S3, now and before, and what S3 knows of each file. `tasks.sources.s3.transfer` fetches
the files."""

import base64
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psomerge.errors import ArtefactError
from psomerge.files.names import MORE_TEMPLATES
from psomerge.files.untrusted import MAX_ENTRIES
from psomerge.tasks.sources.s3.connection import WORKERS, Connection, Object, tag_of


@dataclass(frozen=True)
class Event:
    """A file that was written or removed, in a bucket that keeps versions."""

    name: str
    time: datetime
    written: Object | None


def listing(connection: Connection) -> dict[str, Object]:
    """Returns the files that lie directly below the prefix, and further chat templates, by name as S3 sends it: not yet
    a path to write to.

    Raises:
        ArtefactError: no such bucket, or too many files.
        ServiceError: S3 cannot be reached or refuses.
    """
    entries = _entries(connection, "list_objects_v2", "Contents")
    return {one["Key"]: Object(int(one["Size"]), tag_of(one)) for one in entries}


def history(connection: Connection) -> list[Event]:
    """Returns what was ever written or removed directly below the prefix or among further chat templates, oldest first.
    Raises as `listing`."""
    entries = _entries(connection, "list_object_versions", "Versions", "DeleteMarkers")
    events = [
        Event(
            one["Key"],
            one["LastModified"],
            Object(int(one["Size"]), tag_of(one), one["VersionId"]) if "Size" in one else None,
        )
        for one in reversed(entries)  # S3 lists the newest version of a name first, and tells times in whole seconds
    ]
    return sorted(events, key=lambda event: event.time)


def _entries(connection: Connection, method: str, *kinds: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    bucket, start = connection.prefix.bucket, connection.prefix.key
    places, inner = [start], f"{start}{MORE_TEMPLATES}/"
    with connection.worded():
        for place in places:
            pages = connection.client.get_paginator(method).paginate(Bucket=bucket, Prefix=place, Delimiter="/")
            # A server may send few entries on each page, but not keep us for ever.
            for number, page in enumerate(pages):
                found += [one | {"Key": one["Key"].removeprefix(start)} for kind in kinds for one in page.get(kind, [])]
                if inner not in places and {"Prefix": inner} in page.get("CommonPrefixes", []):
                    places.append(inner)
                if max(number, len(found)) > MAX_ENTRIES and page.get("IsTruncated"):
                    raise ArtefactError(
                        f"{connection.prefix.address}: more than {MAX_ENTRIES} files; expected the prefix of one "
                        "checkpoint"
                    )
    return found


def examined(connection: Connection, objects: Mapping[str, Object]) -> dict[str, Object]:
    """Returns the objects with version and digests, where S3 has them.

    Raises:
        ArtefactError: one is no longer as it was listed.
        ServiceError: S3 cannot be reached or refuses.
    """
    with connection.worded(), ThreadPoolExecutor(max_workers=WORKERS) as pool:
        found = pool.map(lambda name: _examined(connection, name, objects[name]), objects)
        return dict(zip(objects, found, strict=True))


def _examined(connection: Connection, name: str, one: Object) -> Object:
    answer = connection.ask("head_object", name, one, ChecksumMode="ENABLED")
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
