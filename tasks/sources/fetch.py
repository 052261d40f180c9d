"""From where a model lives to a local folder with pinned bytes: a folder, an embedded model, a model of the hub or of
S3, a version of the registry.

Whatever can move (a branch, a tag, an alias, what lies below a prefix) is resolved anew each time, to what cannot; what
that is, is kept under `experts` in the home and used again without a question.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from psomerge.checkpoint.pins import pin
from psomerge.errors import ArtefactError
from psomerge.recipe import Source
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.origin import Access, Fetched, Progress
from psomerge.tasks.tracking.store import Store


def fetch(address: str, home: Path, progress: Progress, *, store: Callable[[], Store] | None = None) -> Fetched:
    """Returns the checkpoint of an address, after downloading or training what is not there yet.

    Args:
        address: a folder, or of a kind that `tasks.sources.address.SCHEMES` has.
        home: PSOMERGE_HOME, where it is kept.
        progress: told what is being done, and the share of it that is done.
        store: gives the model registry.

    Raises:
        ConfigError: an address that cannot be, or an embedded model that does not exist.
        PsomergeError: as `tasks.sources.origin.Origin.fetch`.
    """
    access = Access(home, progress, store)
    return parse(address).resolve(access).fetch(access)


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
