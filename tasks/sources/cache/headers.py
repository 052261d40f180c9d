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
from pathlib import Path

from psomerge.checkpoint.header import MAX_HEADER, parse_header
from psomerge.checkpoint.headers import checkpoint_of_headers, header_guesses
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.durable import writing
from psomerge.files.names import ADAPTER
from psomerge.files.untrusted import MAX_TOKENIZER
from psomerge.screening.selection import WEIGHTS, weight_files
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.cache.download import Revision, download_files
from psomerge.tasks.sources.origin import Preview

WORKERS = 8
"""Headers of one model that are fetched side by side."""


def cached_preview(cache: Cache, revision: str, name: str, base: Checkpoint | None) -> Preview | None:
    """Returns what an earlier look has kept of a revision; None where that is not all here. Asks nobody.

    Args:
        cache: of the model.
        revision: of it.
        name: that messages use: `base`, or an expert's name.
        base: that an expert will be merged with, where that is known.

    Raises:
        ArtefactError: it is no sound checkpoint.
        StateError: the record is damaged.
    """
    if (record := cache.read(f"{revision}.headers.json")) is None:
        return None
    sizes: dict[str, int] = record["files"]
    if _lacking(cache.folder / revision, [file for file in sizes if not file.endswith(WEIGHTS)], sizes):
        return None
    headers = {
        file: len(text.encode()).to_bytes(8, "little") + text.encode() for file, text in record["headers"].items()
    }
    return _preview(cache, revision, name, sizes, headers, base)


def fetched_preview(revision: Revision, cache: Cache, name: str, base: Checkpoint | None) -> Preview:
    """Returns a revision without its weights, after fetching and keeping what that takes; hold the cache's lock.

    Args:
        revision: to ask its source for.
        cache: of the model.
        name: as of `cached_preview`.
        base: as of `cached_preview`; its files are copied where they have the same content, for tokenizers are large,
            and mostly the base's.

    Raises:
        ArtefactError: the files are not those that the source has, or no sound checkpoint.
        ServiceError: the source does not deliver.
        SpaceError: no room, or no right to write.
    """
    every, folder = revision.sizes, cache.folder / revision.name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    small = [file for file in every if not file.endswith(WEIGHTS)]
    _fetch_small(revision, folder, small, base.folder if base else None)
    sizes = {file: every[file] for file in (*small, *weight_files(folder, every))}
    guesses = header_guesses(folder, sizes)
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        read = pool.map(
            lambda file: read_header(revision.read_start, file, every[file], guesses[file], folder), guesses
        )
        headers = dict(zip(guesses, read, strict=True))
    found = _preview(cache, revision.name, name, sizes, headers, base)
    cache.write(
        f"{revision.name}.headers.json",
        {"files": sizes, "headers": {file: content[8:].decode() for file, content in headers.items()}},
    )
    return found


def _preview(
    cache: Cache,
    revision: str,
    name: str,
    sizes: Mapping[str, int],
    headers: Mapping[str, bytes],
    base: Checkpoint | None,
) -> Preview:
    folder, source = cache.folder / revision, cache.address_of(revision)
    lacking = _lacking(folder, headers, sizes)
    if ADAPTER in sizes and base is None:
        return Preview(source, None, lacking, unseen="whether it fits")
    return Preview(source, checkpoint_of_headers(folder, name, sizes, headers, base), lacking)


def _fetch_small(revision: Revision, folder: Path, small: Sequence[str], like: Path | None) -> None:
    for file in small:
        if revision.sizes[file] > MAX_TOKENIZER:
            raise ArtefactError(
                f"{revision.address}: {file} has {revision.sizes[file]} bytes, expected at most {MAX_TOKENIZER}; this "
                "is no language model's"
            )
        if like and not (folder / file).exists() and (like / file).is_file() and revision.matches(file, like / file):
            with writing(folder / file):
                (folder / file).parent.mkdir(exist_ok=True)
                shutil.copyfile(like / file, folder / file)
    download_files(revision, small, folder, lambda share: None)


def read_header(start: Callable[[str, int], bytes], file: str, size: int, guess: int, folder: Path) -> bytes:
    """Returns length and header of a weights file; what is no header is refused here, before more of it is fetched.

    Args:
        start: as of `read_start` of `tasks.sources.cache.download.Revision`.
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
