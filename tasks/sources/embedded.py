"""The embedded models, which are trained on this machine: `embedded://NAME@SEED`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.errors import ConfigError
from psomerge.tasks.building.embedded import MODELS, embedded_folder, train
from psomerge.tasks.sources.origin import Access, Fetched, Preview, Scheme

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint

_ADDRESS = re.compile(r"embedded://(?P<name>[a-z]+)@(?P<seed>\d{1,9})")


@dataclass(frozen=True)
class Embedded:
    """An `Origin`."""

    address: str
    short: str
    """One of `MODELS`."""
    seed: int

    def resolve(self, access: Access) -> "Embedded":
        """Returns itself: the same seed gives the same model."""
        return self

    def cached(self, home: Path) -> Fetched | None:
        """Returns the model if it was trained already."""
        folder = embedded_folder(home, self.seed) / self.short
        return Fetched(folder, self.address) if (folder / "config.json").is_file() else None

    def look(self, access: Access, name: str, base: "Checkpoint | None") -> Preview:
        """Returns the shapes that training will give."""
        from psomerge.tasks.building.embedded.shapes import untrained

        return Preview(self.address, untrained(access.home, name), to_train=True)

    def fetch(self, access: Access) -> Fetched:
        """Returns the model, after training it and those of the same seed that are not there."""
        folders = train(embedded_folder(access.home, self.seed), seed=self.seed, progress=access.progress)
        return Fetched(folders[self.short], self.address)


def _parse(address: str) -> Embedded:
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(f"{address}: expected embedded://NAME@SEED, SEED a number; correct the address")
    if match["name"] not in MODELS:
        raise ConfigError(f"{address}: there is no embedded model {match['name']!r}; known are {', '.join(MODELS)}")
    return Embedded(address, match["name"], int(match["seed"]))


SCHEME = Scheme(("embedded://NAME@SEED",), _parse)
