"""A commit of the hub, fetched file by file and proven by the hub's own digests."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from psomerge.checkpoint.pins import BLOCK, digest_file
from psomerge.tasks.sources.cache.download import Revision, Verified
from psomerge.tasks.sources.hub.client import RemoteFile, Repository, download, read_start

_DOWNLOADS = Path(".cache", "huggingface", "download")
"""Where the client keeps what it knows of files in a folder, and those that are not complete."""


def revision_of(repository: Repository, commit: str, files: Mapping[str, RemoteFile]) -> Revision:
    """Returns a commit as what is downloaded.

    Args:
        repository: that has it.
        commit: 40 hex digits.
        files: of the checkpoint, by name.
    """

    def get(
        names: Sequence[str], folder: Path, on_bytes: Callable[[int], None], on_file: Callable[[str], None]
    ) -> None:
        for leftover in (folder / _DOWNLOADS).rglob("*.incomplete"):
            leftover.unlink()  # of a process that was killed: the client begins such a file anew
        download(repository, commit, names, folder, on_bytes, on_file)

    def matches(name: str, path: Path) -> bool:
        return bool(files[name].sha256 or files[name].blob) and _mismatch(path, files[name]) is None

    return Revision(
        address=repository.address,
        name=commit,
        sizes={name: one.size for name, one in files.items()},
        get=get,
        check=lambda name, path: _checked(path, files[name]),
        remove=_remove,
        read_start=lambda name, count: read_start(repository, commit, name, count),
        matches=matches,
        temporary=".cache",
    )


def _mismatch(path: Path, remote: RemoteFile) -> str | None:
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


def _checked(path: Path, remote: RemoteFile) -> Verified:
    problem = _mismatch(path, remote)
    return Verified("" if problem else remote.sha256 or digest_file(path), problem)


def _remove(name: str, folder: Path) -> None:
    (folder / name).unlink()
    # Else the client takes what is written there next for what it has fetched.
    (folder / _DOWNLOADS / f"{name}.metadata").unlink(missing_ok=True)


def _blob(path: Path, size: int) -> str:
    """Git's name of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
