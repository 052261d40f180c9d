"""A checkpoint in a folder of this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.errors import ArtefactError
from psomerge.files.hub_links import snapshots_of
from psomerge.tasks.sources.origin import Access, Fetched, Preview, Scheme

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint


@dataclass(frozen=True)
class Folder:
    """An `Origin`."""

    address: str
    """As given: a path."""

    @property
    def short(self) -> str:
        """The folder's name."""
        return self.address.rstrip("/").rpartition("/")[2]

    def resolve(self, access: Access) -> "Folder":
        """Returns the folder under the path that means it from anywhere; that its files may change is the pins'
        matter."""
        return Folder(str(self._folder()))

    def cached(self, home: Path) -> Fetched | None:
        """Returns the folder as it is, under the path that means it from anywhere. Raises ArtefactError where it is
        that of a repository in a hub cache, whose models lie in its snapshots."""
        folder = self._folder()
        if snapshots := snapshots_of(folder):
            raise ArtefactError(
                f"{folder}: expected a checkpoint folder, found that of a repository in a hub cache; give its snapshot "
                f"{snapshots[0]}"
            )
        return Fetched(folder, str(folder)) if folder.is_dir() else None

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Raises ArtefactError: what is not here is nowhere."""
        raise self._missing()

    def fetch(self, access: Access) -> Fetched:
        """Returns the folder. Raises ArtefactError if it is not there."""
        if found := self.cached(access.home):
            return found
        raise self._missing()

    def _folder(self) -> Path:
        return Path(os.path.expanduser(self.address)).resolve()  # which leaves the `~` of an unknown user alone

    def _missing(self) -> ArtefactError:
        return ArtefactError(f"{self._folder()}: expected a checkpoint folder, found nothing there; check the path")


SCHEME = Scheme(("a local folder",), Folder)
