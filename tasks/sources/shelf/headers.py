"""A model that is not here yet, seen without its weights: config, tokenizer and index are fetched, of each weights file
the header only.

What is fetched lies where fetching the whole model looks first; the headers are kept beside it, so that the second look
asks nobody:

    REVISION/               the small files
    REVISION.headers.json   sizes of all files, and the headers; sealed

A revision is proven by its small files' digests and the headers' own checks; that the weights are the ones meant is
proven when they are fetched.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from psomerge.checkpoint.header import MAX_HEADER, parse_header
from psomerge.checkpoint.headers import checkpoint_of_headers, header_guesses
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.durable import writing
from psomerge.files.untrusted import ADAPTER, MAX_TOKENIZER
from psomerge.tasks.sources.shelf.choice import WEIGHTS, weight_files
from psomerge.tasks.sources.shelf.filling import Origin
from psomerge.tasks.sources.shelf.shelf import Shelf

WORKERS = 8
"""Headers of one model that are fetched side by side."""


@dataclass(frozen=True)
class Source:
    """What a revision is looked at through."""

    origin: Origin
    start: Callable[[str, int], bytes]
    """Returns so many bytes from a file's start; called from several threads."""
    same: Callable[[str, Path], bool]
    """Returns whether a local file has the content of the source's file of that name, by digest."""


@dataclass(frozen=True)
class Look:
    """A revision without its weights."""

    checkpoint: Checkpoint | None
    """None of an adapter whose base is not known."""
    to_fetch: Mapping[str, int]
    """Bytes of each file that is still to be fetched, by name."""


def kept(shelf: Shelf, revision: str, name: str, base: Checkpoint | None) -> Look | None:
    """Returns what an earlier look has kept of a revision; None where that is not all here. Asks nobody.

    Args:
        shelf: of the model.
        revision: of it.
        name: that messages use: `base`, or an expert's name.
        base: that an expert will be merged with, where that is known.

    Raises:
        ArtefactError: it is no sound checkpoint.
        StateError: the record is damaged.
    """
    if (record := shelf.read(f"{revision}.headers.json")) is None:
        return None
    sizes: dict[str, int] = record["files"]
    if _lacking(shelf.folder / revision, [file for file in sizes if not file.endswith(WEIGHTS)], sizes):
        return None
    headers = {
        file: len(text.encode()).to_bytes(8, "little") + text.encode() for file, text in record["headers"].items()
    }
    return _look(shelf.folder / revision, name, sizes, headers, base)


def look(source: Source, shelf: Shelf, revision: str, name: str, base: Checkpoint | None) -> Look:
    """Returns a revision without its weights, after fetching and keeping what that takes; hold the shelf's lock.

    Args:
        source: to ask.
        shelf: of the model.
        revision: of it.
        name: as of `kept`.
        base: as of `kept`; its files are copied where they have the same content, for tokenizers are large, and mostly
            the base's.

    Raises:
        ArtefactError: the files are not those that the source has, or no sound checkpoint.
        ServiceError: the source does not deliver.
        SpaceError: no room, or no right to write.
    """
    every, folder = source.origin.sizes, shelf.folder / revision
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    small = [file for file in every if not file.endswith(WEIGHTS)]
    _fetch_small(source, folder, small, base.folder if base else None)
    sizes = {file: every[file] for file in (*small, *weight_files(folder, every))}
    guesses = header_guesses(folder, sizes)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        read = pool.map(lambda file: read_header(source.start, file, every[file], guesses[file], folder), guesses)
        headers = dict(zip(guesses, read, strict=True))
    found = _look(folder, name, sizes, headers, base)
    shelf.write(
        f"{revision}.headers.json",
        {"files": sizes, "headers": {file: content[8:].decode() for file, content in headers.items()}},
    )
    return found


def _look(
    folder: Path, name: str, sizes: Mapping[str, int], headers: Mapping[str, bytes], base: Checkpoint | None
) -> Look:
    unknown = ADAPTER in sizes and base is None
    return Look(
        None if unknown else checkpoint_of_headers(folder, name, sizes, headers, base), _lacking(folder, headers, sizes)
    )


def _fetch_small(source: Source, folder: Path, small: Sequence[str], like: Path | None) -> None:
    origin = source.origin
    for file in small:
        if origin.sizes[file] > MAX_TOKENIZER:
            raise ArtefactError(
                f"{origin.address}: {file} has {origin.sizes[file]} bytes, expected at most {MAX_TOKENIZER}; this is "
                "no language model's"
            )
        if like and not (folder / file).exists() and (like / file).is_file() and source.same(file, like / file):
            with writing(folder / file):
                shutil.copyfile(like / file, folder / file)
    if lacking := list(_lacking(folder, small, origin.sizes)):
        origin.download(lacking, folder, lambda _: None)
    origin.prove(small, folder)


def read_header(start: Callable[[str, int], bytes], file: str, size: int, guess: int, folder: Path) -> bytes:
    """Returns length and header of a weights file; what is no header is refused here, before more of it is fetched.

    Args:
        start: as of `Source`.
        file: its name.
        size: of the whole file in bytes.
        guess: bytes in which the header ends, most likely.
        folder: that it will lie in, for messages.

    Raises:
        ArtefactError: as `psomerge.checkpoint.header.parse_header`; and what `start` raises.
    """
    content = start(file, min(guess, size)) if size else b""
    needed = 8 + int.from_bytes(content[:8], "little")
    if len(content) < needed <= min(size, 8 + MAX_HEADER):
        content = start(file, needed)
    parse_header(content, size, file, str(folder / file))
    return content[:needed]


def _lacking(folder: Path, files: Iterable[str], sizes: Mapping[str, int]) -> dict[str, int]:
    """Returns the sizes of the files that the folder lacks, or has in another size: the rest of an interrupted
    download."""
    return {
        file: sizes[file]
        for file in files
        if not (folder / file).is_file() or (folder / file).stat().st_size != sizes[file]
    }
