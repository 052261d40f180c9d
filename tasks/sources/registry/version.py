"""Versions of the model registry: `models:/NAME/VERSION` or `models:/NAME@ALIAS`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.errors import ArtefactError, ConfigError
from psomerge.tasks.sources.origin import Access, Fetched, Preview, Scheme
from psomerge.tasks.sources.registry.copy import Copy, folder_of, update
from psomerge.tasks.tracking.store import MODEL_NAME, MODEL_SCHEME, Store, check_model_name, registry_setting

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint

_ADDRESS = re.compile(
    rf"models:/(?P<name>{MODEL_NAME})(/(?P<version>[1-9][0-9]{{0,9}})|@(?P<alias>[A-Za-z0-9_][A-Za-z0-9_-]*))"
)


@dataclass(frozen=True)
class Registered:
    """An `Origin`."""

    address: str
    short: str
    """The registered model's name."""
    version: str | None
    alias: str
    """Empty where the version is named."""

    def resolve(self, access: Access) -> "Registered":
        """Returns the version that is named, or that the alias names now."""
        if self.version:
            return self
        version = self._borne(self._store(access))
        return Registered(f"{MODEL_SCHEME}{self.short}/{version}", self.short, version, "")

    def cached(self, home: Path) -> Fetched | None:
        """Returns the version if a copy is here; leaves its proof to `fetch`."""
        copy = self._copy(home, registry_setting()) if self.version else None
        return copy.fetched if copy and copy.model.is_dir() else None

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns the version as far as MLflow tells without its weights."""
        from psomerge.tasks.sources.registry.headers import preview

        store = self._store(access)
        return preview(self._copy_of(access.home, store), name, base, store)

    def fetch(self, access: Access) -> Fetched:
        """Returns the version, after downloading it if it is not here, or not as it was published."""
        store = self._store(access)
        copy = self._copy_of(access.home, store)
        update(copy, store, access.progress)
        return copy.fetched

    def _store(self, access: Access) -> Store:
        if access.store is None:
            raise ConfigError(f"{self.address}: there is no model registry to ask here; give a local folder")
        return access.store()

    def _copy_of(self, home: Path, store: Store) -> Copy:
        return self._copy(home, None if store.artifacts and not store.is_divided else store.registry_uri)

    def _copy(self, home: Path, tracking: str | None) -> Copy:
        assert self.version
        return Copy(folder_of(home, tracking) / self.short / self.version)

    def _borne(self, store: Store) -> str:
        from psomerge.tasks.release.registry import bearer

        if (found := bearer(store, self.short, self.alias)) is None:
            raise ArtefactError(
                f"{self.address}: the registry at {store.registry} has no such model or alias; `psomerge ui` shows "
                "what it has"
            )
        return found.version


def _parse(address: str) -> Registered:
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ConfigError(
            f"{address}: expected models:/NAME/VERSION, VERSION a number, or models:/NAME@ALIAS, NAME of letters, "
            "digits, blanks and _ - . + = ,; correct the address"
        )
    return Registered(address, check_model_name(match["name"]), match["version"], match["alias"] or "")


SCHEME = Scheme(("models:/NAME/VERSION", "models:/NAME@ALIAS"), _parse)
