"""From where a model lives to a local folder with pinned bytes: a folder, an embedded model, a model of the hub or of
S3, a version of the registry.

Whatever can move (a branch, a tag, an alias, what lies below a prefix) is resolved once to what cannot, kept under
`experts` in the home, and used from then on.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from psomerge.checkpoint.pins import pin
from psomerge.errors import ArtefactError, ConfigError
from psomerge.recipe import Source
from psomerge.tasks.building.embedded import MODELS, embedded_folder, train
from psomerge.tasks.sources.hub import address as snapshots
from psomerge.tasks.sources.hub import fetch as downloads
from psomerge.tasks.sources.registry import fetch as registered
from psomerge.tasks.sources.s3 import address as s3_snapshots
from psomerge.tasks.sources.s3 import fetch as s3_downloads
from psomerge.tasks.sources.shelf.filling import Progress
from psomerge.tasks.sources.shelf.shelf import Snapshot
from psomerge.tasks.tracking.store import REGISTERED, Store

_EMBEDDED = re.compile(r"embedded://(?P<name>[a-z]+)@(?P<seed>\d{1,9})")
_EMBEDDED_PREFIX = "embedded://"
_KINDS = (
    "a local folder, hf://ORG/NAME@REVISION, s3://BUCKET/PREFIX, models:/NAME/VERSION, models:/NAME@ALIAS or "
    "embedded://NAME@SEED"
)


@dataclass(frozen=True)
class Fetched:
    """A checkpoint on this machine."""

    folder: Path
    source: str
    """Address that means these bytes on another day, too: with the commit or version instead of a branch, tag or
    alias."""
    revision: str | None = None
    """Commit or revision of S3 (40 hex digits) or NAME/VERSION; None where only the files' digests tell."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 in hex by name, where the source has one."""


def here(address: str, home: Path) -> Fetched | None:
    """Returns the checkpoint of an address if it needs no download and no training, else None; asks nobody.

    Args:
        address: as of `fetch`.
        home: PSOMERGE_HOME.

    Raises:
        ConfigError: an address that cannot be, or an embedded model that does not exist.
        ArtefactError: a local folder that does not exist.
        StateError: a record in the home is damaged.
    """
    if address.startswith(snapshots.PREFIX):
        found = snapshots.here(address, home)
        return None if found is None else _snapshot(found)
    if address.startswith(s3_snapshots.PREFIX):
        found = s3_snapshots.here(address, home)
        return None if found is None else _snapshot(found)
    if address.startswith(REGISTERED):
        copy = registered.here(address, home)
        return None if copy is None else _copy(copy)
    if address.startswith(_EMBEDDED_PREFIX):
        folder, _ = _embedded(address, home)
        return Fetched(folder, address) if (folder / "config.json").is_file() else None
    return _local(address)


def fetch(
    address: str, home: Path, progress: Progress, *, store: Callable[[], Store] | None = None, follow: bool = False
) -> Fetched:
    """Returns the checkpoint of an address, after downloading or training what is not there yet.

    Args:
        address: a folder, `hf://ORG/NAME@REVISION`, `s3://BUCKET/PREFIX` with or without `@REVISION`,
            `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `embedded://NAME@SEED`.
        home: PSOMERGE_HOME.
        progress: called with what is being done and the share done, in [0, 1].
        store: gives the model registry; called for the registry's addresses only.
        follow: take the version that an alias names now, not the one that it named when it was first asked for.

    Raises:
        ConfigError, ArtefactError, StateError: as `here`; or a model that the hub, S3 or registry does not have, or has
            no usable files of.
        ServiceError: hub, S3 or registry cannot be reached, or refuse.
        VerificationError: the registry's files are not what was published.
        SpaceError: no room.
    """
    if address.startswith(snapshots.PREFIX):
        return _snapshot(downloads.fetch(address, home, progress))
    if address.startswith(s3_snapshots.PREFIX):
        return _snapshot(s3_downloads.fetch(address, home, progress))
    if address.startswith(REGISTERED):
        if store is None:
            raise ConfigError(f"{address}: there is no model registry to ask here; give a local folder")
        return _copy(registered.fetch(address, home, progress, store=store, follow=follow))
    if address.startswith(_EMBEDDED_PREFIX):
        folder, seed = _embedded(address, home)
        return Fetched(train(folder.parent, seed=seed, progress=progress)[folder.name], address)
    return _local(address)


def _local(address: str) -> Fetched:
    if "://" in address:
        raise ConfigError(f"{address}: expected {_KINDS}; download the model first and give its folder")
    folder = Path(address).expanduser().resolve()
    if not folder.is_dir():
        raise ArtefactError(f"{folder}: expected a checkpoint folder, found nothing there; check the path")
    return Fetched(folder, str(folder))  # a relative path means another folder on another day


def _embedded(address: str, home: Path) -> tuple[Path, int]:
    match = _EMBEDDED.fullmatch(address)
    if match is None:
        raise ConfigError(f"{address}: expected embedded://NAME@SEED, SEED a number; correct the address")
    if match["name"] not in MODELS:
        raise ConfigError(f"{address}: there is no embedded model {match['name']!r}; known are {', '.join(MODELS)}")
    seed = int(match["seed"])
    return embedded_folder(home, seed) / match["name"], seed


def _snapshot(found: Snapshot) -> Fetched:
    return Fetched(found.folder, found.address, found.revision, found.files)


def _copy(found: registered.Copy) -> Fetched:
    return Fetched(found.model, found.address, f"{found.name}/{found.version}")


def pin_fetched(name: str, fetched: Fetched) -> Source:
    """Returns the source record of a checkpoint: its immutable address and revision, and the digests of its files.

    Args:
        name: in the recipe.
        fetched: by `fetch`.

    Raises:
        ArtefactError: a file is not the one that was fetched.
    """
    found = pin(fetched.folder, name, fetched.source)
    for file, digest in fetched.files.items():
        if found.files.get(file) != digest:
            now = found.files.get(file, "no such file")
            raise ArtefactError(
                f"{fetched.folder / file}: expected SHA-256 {digest} as fetched, found {now}; remove "
                f"{fetched.folder}, then run again"
            )
    return replace(found, revision=fetched.revision or found.revision)


def pin_all(fetched: Mapping[str, Fetched]) -> dict[str, Source]:
    """Returns the source record of every checkpoint, by name. Raises ArtefactError as `pin_fetched`."""
    return {name: pin_fetched(name, one) for name, one in fetched.items()}
