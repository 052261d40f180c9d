"""Addresses of S3: `s3://BUCKET/PREFIX` or `s3://BUCKET/PREFIX@REVISION` to the shelf in the home,
`experts/s3/BUCKET/PREFIX`, that keeps its files.

S3 has no commits. A prefix is listed once; REVISION is 40 hex digits made from names, sizes and ETags of the
checkpoint's files directly below it. Two prefixes with the same files have the same revision, and a file that is
written anew with the same bytes changes nothing. Beside what `tasks.sources.shelf.shelf` keeps:

    REVISION.objects.json   size, ETag, version and digests of the files, as S3 had them; sealed
    names/STORE.json        the revision that the prefix was when it was first asked for; STORE is `aws`, else made from
    the endpoint's address

Asks nobody; `tasks.sources.s3.fetch` does.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from psomerge.errors import ConfigError
from psomerge.files.digest import digest_of
from psomerge.tasks.sources.s3.connection import Object, Prefix
from psomerge.tasks.sources.shelf.shelf import Shelf, Snapshot

PREFIX = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,62}", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
_LONGEST = 200
"""Of a folder's name; file systems allow 255 bytes."""


@dataclass(frozen=True)
class Place:
    """Where an address is kept."""

    prefix: Prefix
    pinned: str | None
    """The revision that the address names."""
    shelf: Shelf

    def revision(self) -> str | None:
        """Returns the revision that is meant: named, or what the prefix was when it was first asked for; None if it
        never was."""
        return self.pinned or self.shelf.named(_store())

    def record(self, revision: str, objects: Mapping[str, Object]) -> None:
        """Keeps what a revision consists of and, where the address names none, that it is this one. Raises
        SpaceError."""
        self.shelf.write(f"{revision}.objects.json", {"objects": {name: astuple(one) for name, one in objects.items()}})
        if not self.pinned:
            self.shelf.record_name(_store(), revision)

    def recorded(self, revision: str) -> dict[str, Object] | None:
        """Returns what a revision consists of, if that is on record. Raises StateError for a damaged record."""
        known = self.shelf.read(f"{revision}.objects.json")
        return None if known is None else {name: Object(*entry) for name, entry in known["objects"].items()}

    @property
    def name(self) -> Path:
        """The record of the revision that the prefix was; without it, the next call lists the prefix anew."""
        return self.shelf.path_of_name(_store())


def place_of(address: str, home: Path) -> Place:
    """Returns where an address is kept. Raises ConfigError for one that cannot be."""
    whole, at, end = address.rpartition("@")
    pinned = end.lower() if at and _REVISION.fullmatch(end.lower()) else None
    bucket, _, key = (whole if pinned else address).removeprefix(PREFIX).partition("/")
    key = key.removesuffix("/")
    sound = (
        key.isprintable()
        and "@" not in key
        and len(key.encode(errors="replace")) <= 1000
        and not {"", ".", ".."} & set(key.split("/") if key else ())
    )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or not sound:
        raise ConfigError(
            f"{address}: expected s3://BUCKET/PREFIX or s3://BUCKET/PREFIX@REVISION, where REVISION is 40 hex "
            "digits; correct the address"
        )
    name = quote(f"{key}/", safe="")
    folder = home / "experts" / "s3" / bucket / (name if len(name) <= _LONGEST else digest_of({"prefix": key}))
    shelf = Shelf(f"{PREFIX}{bucket}/{key}".rstrip("/"), folder)
    return Place(Prefix(address, bucket, f"{key}/" if key else ""), pinned, shelf)


def here(address: str, home: Path) -> Snapshot | None:
    """Returns the snapshot of an address if it is complete and unchanged; asks nobody.

    Raises:
        ConfigError: an address that cannot be.
        StateError: a record in the home is damaged.
    """
    place = place_of(address, home)
    return None if (revision := place.revision()) is None else place.shelf.complete(revision)


def revision_of(objects: Mapping[str, Object]) -> str:
    """Returns the 40 hex digits that name these files: by names, sizes and ETags."""
    return digest_of({name: [one.size, one.etag] for name, one in objects.items()})[:40]


def _store() -> str:
    """A name for what the endpoint in the environment is: buckets of one name at two endpoints are two. The endpoint
    itself is kept nowhere."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return "aws" if not endpoint else digest_of({"endpoint": urlsplit(endpoint).netloc.rpartition("@")[2]})[:16]
