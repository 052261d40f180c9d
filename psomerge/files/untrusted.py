"""Opening the files of a checkpoint folder without trusting them.

Only regular files that lie in the folder itself are opened, or in `blobs` of the hub cache that the folder is a
snapshot of (`hub_links`), never what another link, a FIFO or a device leads to; JSON is bounded in size and holds no
key twice. Nothing here knows tensors.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.hub_links import blob_of, status_of
from psomerge.files.names import MORE_TEMPLATES, allowed, is_template

MAX_ENTRIES = 20_000
MAX_TOKENIZER = 48 * 2**20
"""Bytes of a tokenizer file: the largest in use have 35 MB, and the memory that reading JSON takes is up to 25 times as
much."""
MAX_DEPTH = 100
"""Objects and lists within each other in a JSON file: libraries that open it again recurse at each."""

MAX_INDEX = 32 * 2**20
"""Bytes of a shard index that is read."""
MAX_PARTS = 2_000_000
"""Objects and lists in a JSON file: the largest tokenizers have half a million, and millions of empty ones take minutes
to read."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
_COPY = (
    "links are followed from a snapshot of a hub cache into its own blobs only; pass a real copy, made with `cp -rL "
    "FOLDER COPY`"
)


def listing(folder: Path) -> dict[str, int]:
    """Returns the sizes in bytes of the regular files in `folder`, by name, and of further chat templates below it;
    other sub-folders are left out, for nothing in them is read.

    Raises:
        ArtefactError: the folder is missing, is none, cannot be read, or holds a FIFO, socket, device, or a link that
            is not a hub cache's own.
    """
    try:
        with os.scandir(folder) as entries:
            found: dict[str, os.stat_result] = {}
            for entry in entries:
                found[entry.name] = status_of(folder / entry.name)
                if len(found) > MAX_ENTRIES:
                    raise ArtefactError(
                        f"{folder}: more than {MAX_ENTRIES} files; expected the folder of one checkpoint"
                    )
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{folder}: no such folder; expected a checkpoint with config.json and model.safetensors"
        ) from error
    except NotADirectoryError as error:
        raise ArtefactError(
            f"{folder}: not a folder; expected a checkpoint with config.json and model.safetensors"
        ) from error
    except OSError as error:
        raise ArtefactError(f"{folder}: cannot be read: {error.strerror}") from error
    for name, status in sorted(found.items()):
        if stat.S_ISDIR(status.st_mode) and not allowed(name):
            continue
        _must_be_regular(status, folder / name)
    files = {name: status.st_size for name, status in sorted(found.items()) if stat.S_ISREG(status.st_mode)}
    if MORE_TEMPLATES in found and MORE_TEMPLATES not in files:
        more = {f"{MORE_TEMPLATES}/{name}": size for name, size in listing(folder / MORE_TEMPLATES).items()}
        files |= {name: size for name, size in more.items() if is_template(name)}
    return files


def _must_be_regular(status: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return
    hint = _COPY if kind == stat.S_IFLNK else "remove it"
    raise ArtefactError(
        f"{str(path)!r} is {_KINDS.get(kind, 'of an unknown kind')}; a checkpoint holds regular files only: {hint}"
    )


def open_regular(path: Path) -> int:
    """Returns a read-only file descriptor of a regular file; the caller closes it.

    Raises:
        ArtefactError: the file is missing, cannot be read, or is a FIFO, socket, device, folder, or a link that is not
            a hub cache's own.
    """
    try:
        _must_be_regular(status_of(path), path)
        # Between lstat and open the file may be exchanged: O_NOFOLLOW refuses a link then, O_NONBLOCK keeps a FIFO from
        # hanging us, fstat looks again.
        descriptor = os.open(blob_of(path) or path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}: no such file; the checkpoint is incomplete") from error
    except OSError as error:
        reason = f"is a symbolic link; {_COPY}" if error.errno == errno.ELOOP else f"cannot be read: {error.strerror}"
        raise ArtefactError(f"{path}: {reason}") from error
    try:
        _must_be_regular(os.fstat(descriptor), path)
    except ArtefactError:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: Path, limit: int) -> bytes:
    """Returns the content of a regular file of at most `limit` bytes. Raises ArtefactError as `open_regular`, or where
    the file is larger."""
    with open(open_regular(path), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ArtefactError(
            f"{path}: expected at most {limit} bytes, found more; this is not the {path.name} of a language model"
        )
    return content


def read_start(path: Path, size: int) -> bytes:
    """Returns at most the first `size` bytes of a file. Raises ArtefactError where it is no regular one."""
    with open(open_regular(path), "rb") as file:
        return file.read(size)


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """Returns the JSON object in a regular file of at most `limit` bytes. Raises ArtefactError as `parse_object` and
    `read_bytes`."""
    return parse_object(read_bytes(path, limit), str(path))


def parse_object(content: bytes, where: str) -> dict[str, Any]:
    """Returns the JSON object in UTF-8 bytes.

    Raises:
        ArtefactError: the bytes are no JSON, hold a key twice (readers disagree about which one counts), nest too
            deeply, hold too much, or are no object.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        unique: dict[str, Any] = {}
        for key, value in items:
            if key in unique:
                raise ValueError(f"key {key[:80]!r} stands there twice")
            unique[key] = value
        return unique

    try:
        if content.count(b"{") + content.count(b"[") > MAX_PARTS:
            raise ValueError(f"more than {MAX_PARTS} objects and lists")
        data = json.loads(content.decode("utf-8"), object_pairs_hook=pairs)
        _check_depth(data)
    except UnicodeDecodeError as error:
        raise ArtefactError(
            f"{where}: not valid JSON: not UTF-8 at byte {error.start}; fetch the file again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{where}: not valid JSON: {error}; fetch the file again") from error
    if not isinstance(data, dict):
        raise ArtefactError(f"{where}: expected a JSON object, found {type(data).__name__}")
    return cast("dict[str, Any]", data)


def _check_depth(data: object) -> None:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for found in level for inner in _inside(found) if isinstance(inner, (dict, list))]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _inside(found: object) -> Iterable[object]:
    if isinstance(found, dict):
        return cast("dict[str, object]", found).values()
    return cast("list[object]", found) if isinstance(found, list) else ()
