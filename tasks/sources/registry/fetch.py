"""Versions of the model registry as they lie in the home: `models:/NAME/VERSION` to a copy of what was published, held
against its manifest at every use.

    experts/registry/STORE/NAME/VERSION/           the published folder; its `model` is the checkpoint
    experts/registry/STORE/NAME/names/ALIAS.json   the version that an alias named when it was first asked for; sealed

STORE is `home` for this home's own registry, else made from the server's address. MLflow is imported only where
something must be asked or fetched.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ArtefactError, ConfigError, StateError, VerificationError
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.files.locking import lock
from psomerge.tasks.secrets import redact
from psomerge.tasks.services.stores import tracking_uri
from psomerge.tasks.sources.shelf.filling import Progress
from psomerge.tasks.tracking.store import REGISTERED, Store

_ADDRESS = re.compile(
    r"models:/(?P<name>\w[\w-]{0,99})(/(?P<version>[1-9]\d{0,9})|@(?P<alias>\w[\w-]{0,99}))", re.ASCII
)


@dataclass(frozen=True)
class Copy:
    """A version on this machine."""

    name: str
    version: str
    folder: Path
    """As published."""

    @property
    def model(self) -> Path:
        """The checkpoint."""
        return self.folder / "model"

    @property
    def address(self) -> str:
        """The immutable one."""
        return f"{REGISTERED}{self.name}/{self.version}"


def here(address: str, home: Path) -> Copy | None:
    """Returns the version of an address if a copy is here, of an alias the one on record; asks nobody, and leaves its
    proof to `fetch`.

    Raises:
        ConfigError: an address that cannot be.
        StateError: an alias's record is damaged.
    """
    shelf, version, alias = _placed(address, _folder(home, os.environ.get("MLFLOW_TRACKING_URI")))
    version = version or _recorded(shelf, alias)
    copy = Copy(shelf.name, version, shelf / version) if version else None
    return copy if copy and copy.model.is_dir() else None


def fetch(address: str, home: Path, progress: Progress, *, store: Callable[[], Store], follow: bool) -> Copy:
    """Returns the version of an address, after downloading it if it is not here, or not as it was published.

    Args:
        address: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        home: PSOMERGE_HOME.
        progress: called with what is being done and the share done, in [0, 1].
        store: gives the registry.
        follow: ask which version an alias names now, though one is on record.

    Raises:
        ConfigError, StateError: as `here`.
        ArtefactError: the registry has no such version.
        VerificationError: what it delivers is not what was published.
        ServiceError, SpaceError: the registry cannot be reached; no room.
    """
    registry = store()
    copy = resolve(address, home, registry, follow=follow)
    with lock(copy.folder.parent, f"fetches {copy.address}", progress):
        damage = _misfits(copy.folder) if copy.folder.exists() else []
        if damage:
            progress(f"{copy.address}: {damage[0]}; fetching it again", 0.0)
        if damage or not copy.folder.exists():
            _download(copy, registry, progress)
    keep(address, copy)
    return copy


def resolve(address: str, home: Path, registry: Store, *, follow: bool = False) -> Copy:
    """Returns the version that an address means and where its copy belongs; asks the registry only for an alias that is
    not on record, or is to be followed.

    Raises:
        ConfigError, ArtefactError, StateError, ServiceError: as `fetch`.
    """
    shelf, version, alias = _placed(address, _folder(home, None if registry.artifacts else registry.tracking_uri))
    version = version or (None if follow else _recorded(shelf, alias)) or _borne(address, shelf.name, alias, registry)
    return Copy(shelf.name, version, shelf / version)


def keep(address: str, copy: Copy) -> None:
    """Records which version an address's alias names; does nothing where it names the version itself. Raises
    SpaceError."""
    shelf, _, alias = _placed(address, copy.folder.parents[1])
    if alias:
        with writing(shelf):
            (shelf / "names").mkdir(parents=True, exist_ok=True)
        write_atomic(
            _record(shelf, alias),
            to_bytes(seal({"address": f"{REGISTERED}{shelf.name}@{alias}", "version": copy.version})),
        )


def _placed(address: str, place: Path) -> tuple[Path, str | None, str]:
    """The folder of a registered model, and the version or the alias that is meant."""
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ConfigError(
            f"{address}: expected models:/NAME/VERSION, VERSION a number, or models:/NAME@ALIAS; correct the address"
        )
    return place / match["name"], match["version"], match["alias"] or ""


def _folder(home: Path, tracking: str | None) -> Path:
    own = not tracking or tracking == tracking_uri(home)
    return home / "experts" / "registry" / ("home" if own else digest_of({"registry": redact(str(tracking))})[:16])


def _record(shelf: Path, alias: str) -> Path:
    return shelf / "names" / f"{alias.lower()}.json"


def _recorded(shelf: Path, alias: str) -> str | None:
    path = _record(shelf, alias)
    try:
        return from_bytes(path.read_bytes())["version"]
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(
            f"{path}: {error}; remove it, then run the same command again: it asks the registry anew"
        ) from error


def _borne(address: str, name: str, alias: str, store: Store) -> str:
    from psomerge.tasks.release.registry import bearer

    if (found := bearer(store, name, alias)) is None:
        raise ArtefactError(
            f"{address}: the registry at {store.address} has no such model or alias; `psomerge ui` shows what it has"
        )
    return found.version


def must_exist(copy: Copy, store: Store) -> None:
    """Raises ArtefactError, naming those that there are, if the registry has no such version."""
    from psomerge.tasks.tracking.run import connect

    with connect(store) as client:
        found = {str(one.version) for one in client.search_model_versions(f"name = '{copy.name}'")}
    if copy.version not in found:
        known = f"known are {', '.join(sorted(found, key=int)[-10:])}" if found else "there is no model of this name"
        raise ArtefactError(f"{copy.address}: the registry at {store.address} has no such version; {known}")


def _misfits(folder: Path) -> list[str]:
    from psomerge.tasks.release.publish import misfits

    return misfits(folder)


def _download(copy: Copy, store: Store, progress: Progress) -> None:
    from psomerge.tasks.release.registry import download

    must_exist(copy, store)  # MLflow's own words for what is not there do not say what is
    progress(f"{copy.address}: copying", 0.0)
    for leftover in copy.folder.parent.glob(f".{copy.version}.*"):
        shutil.rmtree(leftover)  # of a process that was killed
    with tempfile.TemporaryDirectory(prefix=f".{copy.version}.", dir=copy.folder.parent) as scratch:
        place = Path(scratch) / "copy"
        place.mkdir()
        delivered = download(store, copy.address, place)
        if problems := _misfits(delivered):
            raise VerificationError(
                f"{copy.address} at {store.address} is not what was published: {problems[0]} ({len(problems)} in "
                "all); name a sound version, or give a folder"
            )
        with writing(copy.folder):
            if copy.folder.exists():
                shutil.rmtree(copy.folder)
            delivered.rename(copy.folder)
    progress(f"{copy.address}: copied", 1.0)
