"""Models of S3: `s3://BUCKET/PREFIX` or `s3://BUCKET/PREFIX@REVISION`, kept in the home under
`experts/s3/BUCKET/PREFIX`.

S3 has no commits. A prefix is listed once; REVISION is 40 hex digits made from names, sizes and ETags of the
checkpoint's files directly below it. Two prefixes with the same files have the same revision, and a file that is
written anew with the same bytes changes nothing. Beside what `tasks.sources.cache.cache` keeps:

    REVISION.objects.json   size, ETag, version and digests of the files, as S3 had them; sealed
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from psomerge.errors import ArtefactError, ConfigError
from psomerge.files.digest import digest_of
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.cache.download import Revision
from psomerge.tasks.sources.cache.downloaded import Downloaded
from psomerge.tasks.sources.origin import Scheme
from psomerge.tasks.sources.s3.connection import Connection, Location, Object, connected
from psomerge.tasks.sources.s3.resolving import resolve
from psomerge.tasks.sources.s3.revision import revision_of

_BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,62}", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
_LONGEST = 200
"""Of a folder's name; file systems allow 255 bytes."""


@dataclass(frozen=True)
class S3Model:
    """A `Remote`."""

    prefix: Location
    pinned: str | None
    """The revision that the address names."""

    @property
    def address(self) -> str:
        """As the user gave it."""
        return self.prefix.address

    @property
    def short(self) -> str:
        """The prefix's last part, of a whole bucket its name."""
        return self.prefix.url.rpartition("/")[2]

    def cache(self, home: Path) -> Cache:
        """Returns where its revisions are kept."""
        name = quote(self.prefix.key or "/", safe="")
        if len(name) > _LONGEST:
            name = digest_of({"prefix": self.prefix.key.removesuffix("/")})
        return Cache(self.prefix.url, home / "experts" / "s3" / self.prefix.bucket / name)

    def current(self, cache: Cache) -> str:
        """Returns the revision that lies below the prefix now, after listing it.

        Raises:
            ArtefactError: there is no checkpoint, or it changes meanwhile.
            ConfigError, ServiceError: S3 cannot be used, cannot be reached or refuses.
        """
        with connected(self.prefix) as connection:
            try:
                return _listed(connection, cache, None)[0]
            except ArtefactError as error:
                if "@" in self.prefix.key:
                    raise ArtefactError(f"{error}; a revision, behind the last @, is 40 hex digits") from error
                raise

    def at(self, revision: str) -> "S3Model":
        """Returns the prefix as it is or was at a revision."""
        return S3Model(replace(self.prefix, address=f"{self.prefix.url}@{revision}"), revision)

    @contextmanager
    def opened(self, cache: Cache) -> Iterator[Revision]:
        """Yields the revision; lists the prefix where that is not on record.

        Raises:
            ArtefactError: there is no checkpoint, or not that of the revision any more, or it changes meanwhile.
            ConfigError, ServiceError: S3 cannot be used, cannot be reached or refuses.
        """
        assert self.pinned
        with connected(self.prefix) as connection:
            objects = _recorded(cache, self.pinned) or _listed(connection, cache, self.pinned)[1]
            yield revision_of(connection, self.pinned, objects, cache.digests(self.pinned))


def _listed(connection: Connection, cache: Cache, revision: str | None) -> tuple[str, Mapping[str, Object]]:
    """A revision, or the one that is there now, and what it consists of, which is then on record."""
    found, objects = resolve(connection, revision)
    cache.write(_name(found), {"objects": {name: astuple(one) for name, one in objects.items()}})
    return found, objects


def _recorded(cache: Cache, revision: str) -> dict[str, Object] | None:
    """What a revision consists of, if that is on record."""
    known = cache.read(_name(revision))
    return None if known is None else {name: Object(*entry) for name, entry in known["objects"].items()}


def _name(revision: str) -> str:
    return f"{revision}.objects.json"


def _parse(address: str) -> Downloaded:
    whole, at, end = address.rpartition("@")
    pinned = end.lower() if at and _REVISION.fullmatch(end.lower()) else None
    bucket, _, key = (whole if pinned else address).removeprefix("s3://").partition("/")
    key = key.removesuffix("/")
    sound = (
        key.isprintable()
        and len(key.encode(errors="replace")) <= 1000
        and not {"", ".", ".."} & set(key.split("/") if key else ())
    )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or not sound:
        raise ConfigError(
            f"{address}: expected s3://BUCKET/PREFIX or s3://BUCKET/PREFIX@REVISION, where REVISION is 40 hex "
            "digits; correct the address"
        )
    return Downloaded(S3Model(Location(address, bucket, f"{key}/" if key else ""), pinned))


SCHEME = Scheme(("s3://BUCKET/PREFIX",), _parse)
