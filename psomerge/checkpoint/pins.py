"""SHA-256 of a checkpoint's files: what pins an expert, a base or a merged model."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from psomerge.files.digest import digest_of
from psomerge.files.names import allowed
from psomerge.files.untrusted import listing, open_regular
from psomerge.recipe import Source

BLOCK = 2**24
"""Bytes read and hashed at a time. After each the interpreter must be got hold of again, which beside a busy thread
takes up to 5 ms: the small blocks of `hashlib.file_digest` wait longer than they work."""


def file_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 in hex of each file of the allow-list, by name, sorted; files are streamed, several at a
    time.

    Raises:
        ArtefactError: the folder is missing, or holds a link, FIFO, socket or device.
    """
    folder = Path(folder)
    names = [name for name in listing(folder) if allowed(name)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(names, pool.map(digest_file, [folder / name for name in names]), strict=True))


def digest_file(path: Path) -> str:
    """Returns the SHA-256 in hex of a regular file. Raises ArtefactError as `open_regular`."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with open(open_regular(path), "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
    return digest.hexdigest()


def pin(folder: Path, name: str, source: str) -> Source:
    """Returns the source record of a folder: the digests of its files, and a revision made from them (40 hex digits).

    Args:
        folder: of the checkpoint.
        name: in the recipe.
        source: as the user gave it.

    Raises:
        ArtefactError: as `file_digests`.
    """
    files = file_digests(folder)
    return Source(name=name, source=source, revision=digest_of(files)[:40], files=files)
