"""A revision of S3, fetched file by file and proven by the digests that S3 has and by our own from the first fetch
on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psomerge.checkpoint.pins import BLOCK
from psomerge.tasks.sources.cache.download import Revision, Verified
from psomerge.tasks.sources.s3.connection import Connection, Object
from psomerge.tasks.sources.s3.transfer import TEMPORARY, download, read_start


def revision_of(
    connection: Connection,
    revision: str,
    objects: Mapping[str, Object],
    digests: Mapping[str, str],
) -> Revision:
    """Returns files of a prefix as what is downloaded.

    Args:
        connection: to S3.
        revision: 40 hex digits.
        objects: by file name.
        digests: SHA-256 in hex by file name, of a revision that was here before.
    """

    def get(
        names: Sequence[str], folder: Path, on_bytes: Callable[[int], None], on_file: Callable[[str], None]
    ) -> None:
        download(connection, {name: objects[name] for name in names}, folder, on_bytes, on_file)

    def matches(name: str, path: Path) -> bool:
        one = objects[name]
        return bool(one.sha256 or one.md5) and not _checked(path, one, None).problem

    return Revision(
        address=connection.prefix.address,
        name=revision,
        sizes={name: one.size for name, one in objects.items()},
        get=get,
        check=lambda name, path: _checked(path, objects[name], digests.get(name)),
        remove=lambda name, folder: (folder / name).unlink(),
        read_start=lambda name, count: read_start(connection, name, objects[name], count),
        matches=matches,
        temporary=TEMPORARY,
    )


def _checked(path: Path, one: Object, known: str | None) -> Verified:
    """A file held against its size, the digests that S3 has of it, and the SHA-256 that it had when it was first
    fetched."""
    if (size := path.stat().st_size) != one.size:
        return Verified("", f"expected {one.size} bytes, found {size}")
    expected, sha256, md5 = known or one.sha256, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            if one.md5 and not expected:
                md5.update(block)
    found = sha256.hexdigest()
    if expected and found != expected:
        return Verified("", f"expected SHA-256 {expected}, found {found}")
    if one.md5 and not expected and md5.hexdigest() != one.md5:
        return Verified("", f"expected MD5 {one.md5}, found {md5.hexdigest()}")
    return Verified(found, None)
