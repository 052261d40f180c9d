"""Versions of the model registry as they lie in the home, held against their manifest at every use, or, where another
than psomerge has registered them, against the digests of their first fetch.

    experts/registry/STORE/NAME/VERSION/               the published folder; its `model` is the checkpoint
    experts/registry/STORE/NAME/VERSION.fetched.json   SHA-256 of every file of a checkpoint without a manifest; sealed

STORE is `home` for this home's own registry, else made from the server's address. MLflow is imported only where
something must be asked or fetched.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from psomerge.checkpoint.pins import file_digests
from psomerge.errors import ArtefactError, StateError, VerificationError
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing
from psomerge.files.locking import lock
from psomerge.tasks.secrets import redact
from psomerge.tasks.services.stores import tracking_uri
from psomerge.tasks.sources.origin import Fetched, Progress
from psomerge.tasks.tracking.addresses import SERVERS
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
    def record(self) -> Path:
        """Of the digests of its files, where it has no manifest."""
        return self.folder.with_name(f"{self.version}.fetched.json")

    @property
    def address(self) -> str:
        """The immutable one."""
        return f"{MODEL_SCHEME}{self.name}/{self.version}"

    @property
    def fetched(self) -> Fetched:
        """The checkpoint as the user of any source gets it."""
        return Fetched(self.model, self.address, f"{self.name}/{self.version}")


def folder_of(home: Path, registry: str | None) -> Path:
    """Returns where the copies of a registry's models belong.

    Args:
        home: PSOMERGE_HOME.
        registry: its address; None for this home's own.
    """
    own = not registry or registry == tracking_uri(home) or registry == _served(home, registry)
    return home / "experts" / "registry" / ("home" if own else digest_of({"registry": redact(str(registry))})[:16])


def _served(home: Path, registry: str) -> str | None:
    """The address at which `psomerge ui` serves this home's registry now."""
    from psomerge.tasks.services.servers import running

    server = running(home).get("mlflow") if registry.startswith(SERVERS) else None
    return server and server.api


def update(copy: Copy, store: Store, progress: Progress) -> None:
    """Downloads a version if it is not here, or not as it was published.

    Raises:
        ArtefactError: the registry has no such version, or it holds no checkpoint.
        StateError: the record of its digests is damaged.
        VerificationError: what it delivers is not what was published, or not what it delivered first.
        ServiceError, SpaceError: the registry cannot be reached; no room.
    """
    with lock(copy.folder.parent, f"fetches {copy.address}", progress):
        damage = _misfits(copy, copy.folder) if copy.folder.exists() else []
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
        raise ArtefactError(f"{copy.address}: the registry at {store.registry} has no such version; {known}")


def _misfits(copy: Copy, folder: Path) -> list[str]:
    """In what a folder differs from the manifest in it, else from the digests of the first fetch, a line each."""
    from psomerge.tasks.release.publish import MANIFEST, misfits

    if (folder / MANIFEST).exists() or not copy.record.exists():
        return misfits(folder)
    try:
        known = from_bytes(copy.record.read_bytes(), indent=2)["files"]
    except ValueError as error:
        raise StateError(
            f"{copy.record}: {error}; remove it: the version is then taken as the registry delivers it now"
        ) from error
    try:
        found = file_digests(folder / "model")
    except ArtefactError as error:
        return [str(error)]
    return [
        f"{name}: expected SHA-256 {known.get(name, 'of no such file')}, found {found.get(name, 'no such file')}"
        for name in sorted(known.keys() | found.keys())
        if known.get(name) != found.get(name)
    ]


def _download(copy: Copy, store: Store, progress: Progress) -> None:
    from psomerge.tasks.release.delivery import deliver
    from psomerge.tasks.release.publish import MANIFEST

    must_exist(copy, store)  # MLflow's own words for what is not there do not say what is
    progress(f"{copy.address}: copying", 0.0)
    look = copy.folder.with_name(f".{copy.version}.look")
    for leftover in copy.folder.parent.glob(f".{copy.version}.*"):  # of a process that was killed
        if leftover != look:  # which another process may be reading
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    with tempfile.TemporaryDirectory(prefix=f".{copy.version}.", dir=copy.folder.parent) as scratch:
        try:
            delivered = deliver(store, copy.address, Path(scratch))
        except VerificationError as error:
            raise VerificationError(f"{error}; name a sound version, or give a folder") from error
        if not (delivered / MANIFEST).exists() and not copy.record.exists():
            write_atomic(copy.record, to_bytes(seal({"files": file_digests(delivered / "model")}), indent=2))
        elif problems := _misfits(copy, delivered):
            raise VerificationError(
                f"{copy.address} at {store.registry} is not what it was when it was first fetched: {problems[0]} "
                f"({len(problems)} in all); name another version, or remove {copy.record} to take this one"
            )
        with writing(copy.folder):
            if copy.folder.exists():
                shutil.rmtree(copy.folder)
            delivered.rename(copy.folder)
    shutil.rmtree(look, ignore_errors=True)
    progress(f"{copy.address}: copied", 1.0)
