"""A folder that appears complete or not at all: written beside its place under another name, synced, renamed."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from psomerge.errors import ConfigError, SpaceError
from psomerge.files.durable import sync

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EACCES, errno.EROFS, errno.EPERM)
_BLOCKED = (errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENAMETOOLONG, errno.EXDEV)


@contextmanager
def staged(folder: Path, needed: int) -> Generator[Path]:
    """Yields an empty folder that becomes `folder` when the block ends well, and disappears when it ends otherwise, by
    Ctrl-C too.

    Args:
        folder: the place; must not exist, or be empty. Missing parents are made.
        needed: bytes that will be written, for the check beforehand and for messages.

    Raises:
        ConfigError: `folder` is taken, or cannot be one.
        SpaceError: it lacks the space or the right to write; nothing is left behind.
    """
    target = Path(os.path.abspath(folder))
    made: list[Path] = []
    staging: Path | None = None
    try:
        if os.path.lexists(target) and (target.is_symlink() or not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{folder}: exists already; name a folder that does not exist or is empty")
        for parent in [p for p in reversed(target.parents) if not p.exists()]:
            parent.mkdir()
            made.append(parent)
        _remove_leftovers(target)
        _check_space(target.parent, needed, folder)
        staging = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        with _locked(staging):
            yield staging
            _publish(staging, target)
    except BaseException as error:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for parent in reversed(made):
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise _explained(error, folder, needed) from error
        raise


def _prefix(target: Path) -> str:
    return f".{target.name}.psomerge-"


@contextmanager
def _locked(staging: Path) -> Generator[None]:
    """Holds a kernel lock on a folder: it ends with this process, however that ends, and tells leftovers from work in
    progress."""
    descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # network file systems may not lock folders; leftovers stay there then
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    """Removes what writers of the same target that were killed have left: folders of our own prefix that nobody holds
    locked."""
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _check_space(parent: Path, needed: int, folder: Path) -> None:
    status = os.statvfs(parent)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise SpaceError(f"{folder}: needs {needed} bytes, {free} are free; make room or name another folder")


def _publish(staging: Path, target: Path) -> None:
    """Gives a complete folder its name, durably: what it holds reaches the disk before the name does."""
    staging.chmod(0o755)
    sync(staging)
    staging.rename(target)
    sync(target.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Writes a new file, readable by all, and waits until it is on the disk. Raises OSError."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _explained(error: OSError, folder: Path, needed: int) -> Exception:
    """Returns the error to raise instead of `error`: ours where the user can do something about it, else the same."""
    reason = error.strerror or str(error)
    if error.errno in _NO_SPACE:
        return SpaceError(
            f"{folder}: no room for the {needed} bytes it needs ({reason}); make room or name another folder"
        )
    if error.errno in _NO_RIGHT:
        return SpaceError(
            f"{folder}: cannot be written ({reason}), {needed} bytes are needed; name another folder or change its "
            "rights"
        )
    if error.errno in _BLOCKED:
        return ConfigError(f"{folder}: cannot be made ({reason}); name a folder that does not exist, in one that does")
    return error
