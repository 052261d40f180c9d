"""What every kind of address gives: a model that is here, that can be looked at before it is fetched, or fetched.

`tasks.sources.address` has the table of kinds; each kind's folder or module says how it is done. What only looking
needs, torch for one, is imported there and then: fetching is done without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from psomerge.tasks.tracking.store import Store

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, in [0, 1]; from any thread."""


@dataclass(frozen=True)
class Access:
    """What looking and fetching may use."""

    home: Path
    """PSOMERGE_HOME."""
    progress: Progress
    store: Callable[[], Store] | None = None
    """Gives the model registry; called for the registry's addresses only."""


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


@dataclass(frozen=True)
class Preview:
    """A model as far as it is known without fetching or training it."""

    source: str
    """As of `Fetched`, where that is known."""
    checkpoint: "Checkpoint | None"
    """Without values where `to_fetch` names weights or it is to be trained; None where not even the headers can be
    seen."""
    to_fetch: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each file that is still to be fetched, by name."""
    to_train: bool = False
    unseen: str = ""
    """What is known only once it is fetched; empty where the headers tell."""

    @property
    def whole(self) -> bool:
        """Whether all of it is on this machine."""
        return not self.to_fetch and not self.to_train and self.checkpoint is not None


class Origin(Protocol):
    """Where one model comes from: an address, parsed. What can move (a branch, a tag, an alias, what lies below a
    prefix) is resolved first; the rest is for what cannot."""

    @property
    def address(self) -> str:
        """As given; of a resolved one, that which means the same on another day."""
        ...

    @property
    def short(self) -> str:
        """The model's name alone, without where it lives and which revision is meant."""
        ...

    def resolve(self, access: Access) -> "Origin":
        """Returns what the address means now; asks only where that can move.

        Raises:
            PsomergeError: as `fetch`.
        """
        ...

    def cached(self, home: Path) -> Fetched | None:
        """Returns the checkpoint if it is resolved and needs no download and no training, else None; asks nobody.

        Raises:
            StateError: a record in the home is damaged.
        """
        ...

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns what can be known of a model that is not here, without fetching or training it.

        Args:
            access: what may be used.
            name: that messages use: `base`, or an expert's name.
            base: that an expert will be merged with, where that is known.

        Raises:
            PsomergeError: as `fetch`.
        """
        ...

    def fetch(self, access: Access) -> Fetched:
        """Returns the checkpoint, after downloading or training what is not here yet.

        Raises:
            ConfigError: what it takes is not set or not installed.
            ArtefactError: no such model, none that can be merged, or files that are not those that the source has.
            StateError: a record in the home is damaged.
            ServiceError: the source cannot be reached, or refuses.
            VerificationError: the registry's files are not what was published.
            SpaceError: no room.
        """
        ...


@dataclass(frozen=True)
class Scheme:
    """A kind of address."""

    forms: tuple[str, ...]
    """How such an address is written, for messages."""
    parse: Callable[[str], Origin]
    """Returns the origin of an address. Raises ConfigError for one that cannot be."""
