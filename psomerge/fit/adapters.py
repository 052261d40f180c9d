"""What a user should know about an adapter that can be merged: what its file lacked, and another base in its settings
than the one that it is merged with."""

from collections.abc import Iterator
from pathlib import Path

from psomerge.checkpoint.adapter import Adapter
from psomerge.checkpoint.adapter_config import trained_on
from psomerge.checkpoint.reader import Checkpoint
from psomerge.fit.numerics import shown
from psomerge.fit.warning import FitWarning

_NEAR = 3
"""Parts of a folder's path that may name its model: of a cache the last is a revision, of a hub's the last but two the
model."""


def adapter_warnings(base: Checkpoint, expert: Checkpoint) -> Iterator[FitWarning]:
    """Yields what a user should know about an expert that is an adapter of the base."""
    if not isinstance(expert, Adapter):
        return
    for note in expert.notes:
        yield FitWarning(expert.name, note.what, note.expected, note.found, note.advice)
    named = trained_on(expert.stored.config)
    if named and not may_be(named, base.folder):
        yield FitWarning(
            expert.name,
            "base that it was trained on, by adapter_config.json",
            shown(str(base.folder)),
            shown(named),
            "an adapter is right only on the weights that it was trained on; go on if they are the same",
        )


def may_be(named: str, folder: Path) -> bool:
    """Returns whether what an adapter calls its base may be the model in a folder: the folder itself, or what has its
    name; a folder of this machine is no other one.

    Args:
        named: a path, of this machine or another, or the name of a model on a hub.
        folder: of the base.
    """
    path, place = Path(named).expanduser(), folder.resolve()
    if path.is_absolute() and path.is_dir():
        return path.resolve() == place
    name = named.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    return any(name == part.rpartition("--")[2].lower() for part in place.parts[-_NEAR:])
