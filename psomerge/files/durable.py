"""Files that survive a crash: written whole or not at all, and sealed so that damage shows.

A sealed object is plain JSON data with a `sha256` over everything else in it. This module knows no folder layout and
reads no file.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

from psomerge.errors import SpaceError
from psomerge.files.digest import digest_of


@contextlib.contextmanager
def writing(path: Path) -> Generator[None]:
    """Turns every OSError inside into a SpaceError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        raise SpaceError(
            f"{path}: expected to write here, found: {error.strerror or error}; make room or give the right to "
            "write, then run the same command again"
        ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file (mode 0644) so that a crash at any moment leaves the old content or the new one, durable on return.

    Raises:
        SpaceError: the folder is full, missing or cannot be written; nothing is left behind.
    """
    with writing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync(path.parent)


def sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, durable: without it what is written, renamed or new can vanish
    with the power. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns plain JSON data of `content` with its `sha256` added. Raises ValueError for NaN, infinity or a `sha256`
    of its own."""
    if "sha256" in content:
        raise ValueError("sealed content has its own key sha256")
    # Through JSON once: keys that are numbers sort otherwise before than after, which would change the digest on
    # reading.
    plain = json.loads(json.dumps(dict(content), allow_nan=False))
    return plain | {"sha256": digest_of(plain)}


def to_bytes(sealed: Mapping[str, Any], indent: int | None = None) -> bytes:
    """Returns the one way to write a sealed object: ASCII, sorted keys, ended by a newline; one line unless `indent` is
    given."""
    return (
        json.dumps(sealed, sort_keys=True, indent=indent, separators=(",", ": " if indent else ":"), allow_nan=False)
        + "\n"
    ).encode("ascii")


def from_bytes(data: bytes, indent: int | None = None) -> dict[str, Any]:
    """Returns the sealed object that `to_bytes` wrote. Raises ValueError, saying what is wrong, for every other
    sequence of bytes."""
    try:
        content = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    sealed = cast(dict[str, Any], content)
    plain = {name: value for name, value in sealed.items() if name != "sha256"}
    try:
        # The bytes are compared too: 1e5 and 1E5 are one number, but a flipped bit is damage even where it changes
        # nothing.
        sound = seal(plain) == sealed and to_bytes(sealed, indent) == data
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("its content does not fit its sha256")
    return sealed
