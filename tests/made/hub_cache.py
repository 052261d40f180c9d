"""A hub cache, as the hub's client lays it out: files in blobs/, and links to them in snapshots/REVISION."""

from hashlib import sha256
from pathlib import Path

from huggingface_hub.file_download import _create_symlink

REVISION = "0123456789abcdef0123456789abcdef01234567"


def snapshot(folder: Path, cache: Path, repository: str = "models--org--tiny") -> Path:
    """Moves the files of a folder, and of those in it, into a cache; returns the snapshot that leads to them.

    The links are made by the hub's client itself.
    """
    place = cache / repository
    for path in [path for path in sorted(folder.rglob("*")) if path.is_file()]:
        blob = place / "blobs" / sha256(path.read_bytes()).hexdigest()
        link = place / "snapshots" / REVISION / path.relative_to(folder)
        for one in (blob, link):
            one.parent.mkdir(parents=True, exist_ok=True)
        if blob.exists():
            path.unlink()
        else:
            path.rename(blob)
        _create_symlink(str(blob), str(link), new_blob=True)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(REVISION)
    return place / "snapshots" / REVISION
