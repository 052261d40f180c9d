"""Versions of the model registry as they lie in the home, held against their manifest at every use.

    experts/registry/STORE/NAME/VERSION/           the published folder; its `model` is the checkpoint

STORE is `home` for this home's own registry, else made from the server's address. MLflow is imported only where
something must be asked or fetched.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from psomerge.errors import ArtefactError, VerificationError
from psomerge.files.digest import digest_of
from psomerge.files.durable import writing
from psomerge.files.locking import lock
from psomerge.tasks.secrets import redact
from psomerge.tasks.services.stores import tracking_uri
from psomerge.tasks.sources.origin import Fetched, Progress
from psomerge.tasks.tracking.store import MODEL_SCHEME, Store


@dataclass(frozen=True)
class Copy:
    """A version, and where its copy on this machine belongs."""

    folder: Path
    """As published: .../NAME/VERSION."""

    @property
    def name(self) -> str:
        """The registered model's."""
        return self.folder.parent.name

    @property
    def version(self) -> str:
        """Its number."""
        return self.folder.name

    @property
    def model(self) -> Path:
        """The checkpoint."""
        return self.folder / "model"

    @property
    def address(self) -> str:
        """The immutable one."""
        return f"{MODEL_SCHEME}{self.name}/{self.version}"

    @property
    def fetched(self) -> Fetched:
        """The checkpoint as the user of any source gets it."""
        return Fetched(self.model, self.address, f"{self.name}/{self.version}")


def folder_of(home: Path, tracking: str | None) -> Path:
    """Returns where the copies of a registry's models belong.

    Args:
        home: PSOMERGE_HOME.
        tracking: the registry's address; None for this home's own.
    """
    own = not tracking or tracking == tracking_uri(home)
    return home / "experts" / "registry" / ("home" if own else digest_of({"registry": redact(str(tracking))})[:16])


def update(copy: Copy, store: Store, progress: Progress) -> None:
    """Downloads a version if it is not here, or not as it was published.

    Raises:
        ArtefactError: the registry has no such version.
        VerificationError: what it delivers is not what was published.
        ServiceError, SpaceError: the registry cannot be reached; no room.
    """
    with lock(copy.folder.parent, f"fetches {copy.address}", progress):
        damage = _misfits(copy.folder) if copy.folder.exists() else []
        if damage:
            progress(f"{copy.address}: {damage[0]}; fetching it again", 0.0)
        if damage or not copy.folder.exists():
            _download(copy, store, progress)


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
