"""The links of a hub cache: what lies in `snapshots/REVISION` of a repository's folder are links to files in its
`blobs`. No other link is one of these, whatever it leads to.

Source: the layout of huggingface_hub's cache, "Understand caching".
"""

import os
from pathlib import Path

from psomerge.errors import ArtefactError

SNAPSHOTS, BLOBS = "snapshots", "blobs"


def blob_of(path: Path) -> Path | None:
    """Returns the file in a repository's `blobs` that a link in one of its snapshots leads to, be it there or not; None
    where `path` is no link or leads anywhere else."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    folder = Path(os.path.realpath(path.parent))
    place, name = os.path.split(folder / target)
    blobs = Path(os.path.realpath(place))
    return next((blobs / name for one in folder.parents if one.name == SNAPSHOTS and one.parent / BLOBS == blobs), None)


def status_of(path: Path) -> os.stat_result:
    """Returns the status of a path itself, of the blob where it is a hub cache's link to one.

    Raises:
        ArtefactError: the blob is not there.
        OSError: as `lstat`.
    """
    blob = blob_of(path)
    try:
        return (blob or path).lstat()
    except FileNotFoundError as error:
        if blob is None:
            raise
        raise ArtefactError(
            f"{str(path)!r} leads to {blob}, which is not there; fetch the model again, or remove the link if nothing "
            "needs the file"
        ) from error


def snapshots_of(repository: Path) -> list[Path]:
    """Returns the snapshots in a repository's folder of a hub cache, that of its main branch first; none where it is no
    such folder."""
    if not (repository / BLOBS).is_dir() or not (repository / SNAPSHOTS).is_dir():
        return []
    main = repository / "refs" / "main"
    first = main.read_text(errors="replace").strip() if main.is_file() else ""
    found = sorted(path for path in (repository / SNAPSHOTS).iterdir() if path.is_dir())
    return sorted(found, key=lambda path: path.name != first)
