"""A model of the hub that is not here yet: resolved once, fetched file by file and proven by the hub's own digests."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psomerge.checkpoint.pins import BLOCK, digest_file
from psomerge.errors import ServiceError
from psomerge.files.locking import lock
from psomerge.tasks.sources.hub.address import Place, here, place_of
from psomerge.tasks.sources.hub.client import Remote, Revision, download, look_up
from psomerge.tasks.sources.shelf.choice import wanted
from psomerge.tasks.sources.shelf.filling import Checked, Origin, Progress, fill, origin
from psomerge.tasks.sources.shelf.shelf import Snapshot

_NOTES = Path(".cache", "huggingface", "download")
"""Where the client keeps what it knows of files in a folder, and those that are not complete."""


def fetch(address: str, home: Path, progress: Progress) -> Snapshot:
    """Returns the snapshot of an address, after downloading what is not there or not as it was.

    Args:
        address: `hf://ORG/NAME` or `hf://ORG/NAME@REVISION`.
        home: PSOMERGE_HOME.
        progress: called with what is being done and the share done, in [0, 1].

    Raises:
        ConfigError, StateError: as `here`.
        ArtefactError: no such model or revision, none that can be merged, or files that are not those that the hub has.
        ServiceError, SpaceError: as `tasks.sources.hub.client`; or no room for the files.
    """
    if found := here(address, home):
        return found
    place = place_of(address, home)
    with lock(place.shelf.folder, f"fetches {address}", progress):
        if found := here(address, home):
            return found
        revision = resolve(place)
        if place.commit() is None:
            place.shelf.record_name(place.revision, revision.commit)
        return _fill(place, revision.commit, wanted(address, revision.files), progress)


def resolve(place: Place) -> Revision:
    """Returns the commit that an address means, or meant when it was first asked for, and its files; asks the hub.

    Raises:
        ArtefactError, ServiceError: as `tasks.sources.hub.client.look_up`.
    """
    commit = place.commit()
    revision = look_up(place.repository, commit or place.revision)
    if commit not in (None, revision.commit):
        raise ServiceError(
            f"{place.repository.address}: asked for commit {commit}, the hub answers with {revision.commit}; check "
            "HF_ENDPOINT"
        )
    return revision


def _fill(place: Place, commit: str, files: Mapping[str, Remote], progress: Progress) -> Snapshot:
    folder = place.shelf.folder / commit
    for leftover in (folder / _NOTES).glob("*.incomplete"):
        leftover.unlink()  # of a process that was killed: the client begins such a file anew
    # Before anything is kept that is there: a file that was changed has the size that it should have, and the client
    # looks no further.
    _remove(folder, [name for name, one in files.items() if (folder / name).exists() and mismatch(folder / name, one)])
    return fill(origin_of(place, commit, files), place.shelf, commit, progress)


def origin_of(place: Place, commit: str, files: Mapping[str, Remote]) -> Origin:
    """Returns the hub as what a commit's files are fetched from."""

    def get(names: Sequence[str], folder: Path, told: Callable[[int], None], then: Callable[[str], None]) -> None:
        download(place.repository, commit, names, folder, told, then)

    return origin(
        place.repository.address,
        {name: one.size for name, one in files.items()},
        get,
        lambda path: _checked(path, files[path.name]),
        lambda path: _remove(path.parent, [path.name]),
        notes=".cache",
    )


def mismatch(path: Path, remote: Remote) -> str | None:
    """Returns how a file differs from the hub's, by the hub's own digest."""
    if (size := path.stat().st_size) != remote.size:
        return f"expected {remote.size} bytes, found {size}"
    if remote.sha256:
        expected, found = f"SHA-256 {remote.sha256}", f"SHA-256 {digest_file(path)}"
    elif remote.blob:
        expected, found = f"git blob {remote.blob}", f"git blob {_blob(path, size)}"
    else:
        return None
    return None if found == expected else f"expected {expected}, found {found}"


def _checked(path: Path, remote: Remote) -> Checked:
    problem = mismatch(path, remote)
    return Checked("" if problem else remote.sha256 or digest_file(path), problem)


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / _NOTES / f"{name}.metadata").unlink(missing_ok=True)


def _blob(path: Path, size: int) -> str:
    """Git's name of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
