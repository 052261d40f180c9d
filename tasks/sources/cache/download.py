"""Files of one revision into its folder in a cache: the small ones first, then the weights that they name, each proven
before anything is recorded."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ArtefactError, SpaceError
from psomerge.files.durable import sync, writing
from psomerge.files.names import allowed
from psomerge.files.untrusted import listing
from psomerge.screening.selection import WEIGHTS, weight_files
from psomerge.tasks.sources.cache.cache import Cache
from psomerge.tasks.sources.origin import Fetched, Progress


@dataclass(frozen=True)
class Verified:
    """A file held against what its source says of it."""

    digest: str
    """SHA-256 in hex; of no meaning where there is a problem."""
    problem: str | None
    """How it differs: what was expected, what was found."""


Get = Callable[[Sequence[str], Path, Callable[[int], None], Callable[[str], None]], None]
"""Puts files, by name, into a folder that lacks them. Calls its third argument with the bytes of these files that are
there so far, and its last with the name of each that has come, while others are still coming; both from any thread.
Raises ArtefactError, ServiceError or SpaceError: no such file, not delivered, or no room."""


@dataclass(frozen=True)
class Revision:
    """A revision as its source has it, and how its files are had from there."""

    address: str
    """As the user gave it, for messages."""
    name: str
    """40 hex digits."""
    sizes: Mapping[str, int]
    """Bytes of every file of the checkpoint, by name."""
    get: Get
    check: Callable[[str, Path], Verified]
    """Holds a local file against the source's file of that name."""
    remove: Callable[[str, Path], None]
    """Deletes the file of a name in a folder, so that it is fetched again."""
    read_start: Callable[[str, int], bytes]
    """Returns so many bytes from a file's start; called from several threads."""
    matches: Callable[[str, Path], bool]
    """Returns whether a local file has the content of the source's file of that name, by digest."""
    temporary: str
    """Folder below the revision's for what is needed only while files come; it goes when all is proven."""


def download(revision: Revision, cache: Cache, progress: Progress) -> Fetched:
    """Returns the snapshot of a revision, after fetching what its folder lacks.

    Raises:
        ArtefactError: the files are not those that the source has, or no checkpoint.
        ServiceError: the source does not deliver.
        SpaceError: no room, or no right to write.
    """
    folder = cache.folder / revision.name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    progress(f"{revision.address}: config and tokenizer", 0.0)
    small = [name for name in revision.sizes if not name.endswith(WEIGHTS)]
    digests = download_files(revision, small, folder, lambda share: None)
    weights = weight_files(folder, list(revision.sizes))
    digests |= download_files(revision, weights, folder, lambda share: progress(revision.address, share))
    with writing(folder):
        for name in listing(folder):
            if allowed(name) and name not in digests:
                (folder / name).unlink()
        shutil.rmtree(folder / revision.temporary, ignore_errors=True)
        for name in digests:
            _sync(folder / name)
        sync(folder)
    return cache.record(revision.name, digests)


def download_files(
    revision: Revision, names: Sequence[str], folder: Path, progress: Callable[[float], None]
) -> dict[str, str]:
    """Returns the SHA-256 of files in hex by name, after fetching those that the folder lacks, or has otherwise than
    the source. Each is checked and brought to disk while others are still coming.

    Args:
        revision: of which they are.
        names: of files.
        folder: to fill.
        progress: called with the share done, in [0, 1].

    Raises:
        PsomergeError: as `download`.
    """
    checked = _checked([name for name in names if (folder / name).exists()], folder, revision)
    lacking = [name for name in names if name not in checked]
    total, free = sum(revision.sizes[name] for name in lacking), shutil.disk_usage(folder).free
    if total > free:
        raise SpaceError(
            f"{revision.address}: needs {total / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; make room, or set "
            "PSOMERGE_HOME to a larger disk"
        )

    def settle(name: str) -> None:
        with ThreadPoolExecutor(max_workers=1) as pool:  # the disk writes while the file is hashed
            synced = pool.submit(_sync, folder / name)
            checked[name] = revision.check(name, folder / name)
        synced.result()

    revision.get(lacking, folder, lambda done: progress(min(1.0, done / max(total, 1))), settle)
    progress(1.0)
    if wrong := {name: one.problem for name, one in checked.items() if one.problem}:
        for name in wrong:
            revision.remove(name, folder)
        name, problem = next(iter(wrong.items()))
        raise ArtefactError(
            f"{revision.address}: {name}: {problem} ({len(wrong)} wrong in all, removed); run the same command again "
            "to fetch it anew"
        )
    return {name: one.digest for name, one in checked.items()}


def _checked(names: Sequence[str], folder: Path, revision: Revision) -> dict[str, Verified]:
    """What the source says of files that are here, as many at a time as there are cores; those that differ are
    removed."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        checks = pool.map(lambda name: revision.check(name, folder / name), names)
        found = dict(zip(names, checks, strict=True))
    for name, one in found.items():
        if one.problem:
            revision.remove(name, folder)
    return {name: one for name, one in found.items() if not one.problem}


def _sync(path: Path) -> None:
    with writing(path):
        sync(path)
