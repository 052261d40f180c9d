"""Versions of the model registry: `models:/NAME/VERSION` or `models:/NAME@ALIAS`."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.errors import ArtefactError, ConfigError
from psomerge.tasks.sources.origin import Access, Fetched, Preview, Scheme
from psomerge.tasks.sources.registry.copy import Copy, folder_of, recorded, update
from psomerge.tasks.tracking.store import Store

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint

_ADDRESS = re.compile(
    r"models:/(?P<name>\w[\w-]{0,99})(/(?P<version>[1-9]\d{0,9})|@(?P<alias>\w[\w-]{0,99}))", re.ASCII
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

    def cached(self, home: Path) -> Fetched | None:
        """Returns the version if a copy is here, of an alias the one on record; leaves its proof to `fetch`."""
        folder = folder_of(home, os.environ.get("MLFLOW_TRACKING_URI")) / self.short
        version = self.version or recorded(folder, self.alias)
        return Copy(folder / version).fetched if version and Copy(folder / version).model.is_dir() else None

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns the version as far as MLflow tells without its weights."""
        from psomerge.tasks.sources.registry.headers import preview

        store, copy = self._resolved(access)
        return replace(preview(copy, name, base, store), keep=lambda: self._record(copy))

    def fetch(self, access: Access) -> Fetched:
        """Returns the version, after downloading it if it is not here, or not as it was published."""
        store, copy = self._resolved(access)
        update(copy, store, access.progress)
        self._record(copy)
        return copy.fetched

    def _resolved(self, access: Access) -> tuple[Store, Copy]:
        """The registry, and the version that is meant; asks only for an alias that is not on record, or is to be
        followed."""
        if access.store is None:
            raise ConfigError(f"{self.address}: there is no model registry to ask here; give a local folder")
        store = access.store()
        folder = folder_of(access.home, None if store.artifacts else store.tracking_uri) / self.short
        known = self.version or (None if access.follow else recorded(folder, self.alias))
        return store, Copy(folder / (known or self._borne(store)))

    def _borne(self, store: Store) -> str:
        from psomerge.tasks.release.registry import bearer

        if (found := bearer(store, self.short, self.alias)) is None:
            raise ArtefactError(
                f"{self.address}: the registry at {store.address} has no such model or alias; `psomerge ui` shows what "
                "it has"
            )
        return found.version

    def _record(self, copy: Copy) -> None:
        if self.alias:
            copy.record(self.alias)


def _parse(address: str) -> Registered:
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ConfigError(
            f"{address}: expected models:/NAME/VERSION, VERSION a number, or models:/NAME@ALIAS; correct the address"
        )
    return Registered(address, match["name"], match["version"], match["alias"] or "")


SCHEME = Scheme(("models:/NAME/VERSION", "models:/NAME@ALIAS"), _parse)
