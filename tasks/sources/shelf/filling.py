"""Files of one revision into its folder on a shelf: the small ones first, then the weights that they name, each proven
before anything is recorded."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ArtefactError, SpaceError
from psomerge.files.durable import sync_folder, writing
from psomerge.files.untrusted import allowed, listing
from psomerge.tasks.sources.shelf.choice import WEIGHTS, weight_files
from psomerge.tasks.sources.shelf.shelf import Shelf, Snapshot

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Origin:
    """What a revision is fetched from."""

    address: str
    """As the user gave it, for messages."""
    sizes: Mapping[str, int]
    """Bytes of every file of the checkpoint, by name."""
    download: Callable[[Sequence[str], Path, Callable[[int], None]], None]
    """Puts files into a folder, those that lack; tells the bytes received so far, from any thread."""
    prove: Callable[[Sequence[str], Path], dict[str, str]]
    """Returns the SHA-256 of each file; raises ArtefactError, and removes it, where a file is not what the source
    has."""
    notes: str
    """Folder that downloading keeps its own files in, below the revision's; it goes when all is proven."""


@dataclass(frozen=True)
class Checked:
    """A file held against what its source says of it."""

    digest: str
    """SHA-256 in hex; of no meaning where there is a problem."""
    problem: str | None
    """How it differs: what was expected, what was found."""


Get = Callable[[Sequence[str], Path, Callable[[int], None], Callable[[str], None]], None]
"""As `Origin.download`, and calls its last argument with the name of each file that has come, while others are still
coming, from any thread."""


def origin(
    address: str,
    sizes: Mapping[str, int],
    get: Get,
    check: Callable[[Path], Checked],
    remove: Callable[[Path], None],
    *,
    notes: str,
) -> Origin:
    """Returns an origin of which each file is checked and brought to disk while others are still coming.

    Args:
        address, sizes, notes: as of `Origin`.
        get: fetches files.
        check: holds a file against its source.
        remove: deletes a file, so that the next run fetches it.
    """
    settled: dict[Path, Checked] = {}

    def download(names: Sequence[str], folder: Path, told: Callable[[int], None]) -> None:
        def settle(name: str) -> None:
            with ThreadPoolExecutor(max_workers=1) as pool:  # the disk writes while the file is hashed
                synced = pool.submit(_sync, folder / name)
                settled[folder / name] = check(folder / name)
            synced.result()

        get(names, folder, told, settle)

    def prove(names: Sequence[str], folder: Path) -> dict[str, str]:
        paths = [folder / name for name in names]
        found = settled | in_parallel(check, [path for path in paths if path not in settled])
        return _digests(address, {path: found[path] for path in paths}, remove)

    return Origin(address, sizes, download, prove, notes)


def _digests(address: str, found: Mapping[Path, Checked], remove: Callable[[Path], None]) -> dict[str, str]:
    if wrong := {path: one.problem for path, one in found.items() if one.problem}:
        for path in wrong:
            remove(path)
        path, problem = next(iter(wrong.items()))
        raise ArtefactError(
            f"{address}: {path.name}: {problem} ({len(wrong)} wrong in all, removed); run the same command again to "
            "fetch it anew"
        )
    return {path.name: one.digest for path, one in found.items()}


def in_parallel(check: Callable[[Path], Checked], paths: Sequence[Path]) -> dict[Path, Checked]:
    """Returns what a check says of each file; as many at a time as there are cores."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(check, paths), strict=True))


def fill(origin: Origin, shelf: Shelf, revision: str, progress: Progress) -> Snapshot:
    """Returns the snapshot of a revision, after fetching what its folder lacks.

    Raises:
        ArtefactError: the files are not those that the source has, or no checkpoint.
        ServiceError: the source does not deliver.
        SpaceError: no room, or no right to write.
    """
    folder, what = shelf.folder / revision, origin.address
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    small = [name for name in origin.sizes if not name.endswith(WEIGHTS)]
    progress(f"{what}: config and tokenizer", 0.0)
    origin.download(small, folder, lambda _: None)
    digests = origin.prove(small, folder)
    large = weight_files(folder, list(origin.sizes))
    total = sum(origin.sizes[name] for name in large if not (folder / name).exists())
    if total > (free := shutil.disk_usage(folder).free):
        raise SpaceError(
            f"{what}: needs {total / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; make room, or set "
            "PSOMERGE_HOME to a larger disk"
        )
    origin.download(large, folder, lambda done: progress(what, min(1.0, done / max(total, 1))))
    progress(f"{what}: checking", 1.0)
    digests |= origin.prove(large, folder)
    with writing(folder):
        for name in listing(folder):
            if allowed(name) and name not in digests:
                (folder / name).unlink()
        shutil.rmtree(folder / origin.notes, ignore_errors=True)
        for name in digests:
            _sync(folder / name)
        sync_folder(folder)
    return shelf.record(revision, digests)


def _sync(path: Path) -> None:
    with writing(path), path.open("rb") as file:
        os.fsync(file.fileno())
