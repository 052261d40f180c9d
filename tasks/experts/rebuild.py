"""A recipe's model, from the checkpoints that it pins: any particle ever judged."""

from collections.abc import Mapping
from pathlib import Path

from psomerge.merge.materialize import check_pins, write_model
from psomerge.recipe import Recipe
from psomerge.tasks.experts.fitting import open_fitting


def rebuild(recipe: Recipe, folders: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Writes the recipe's model to `out` and returns the SHA-256 of every file by name.

    Args:
        recipe: its sources are checked against the local files by digest.
        folders: local folder of `base` and of every expert by name.
        out: must not exist, or be empty.

    Raises:
        ArtefactError: a file differs from what the recipe pins, or the checkpoints do not fit.
        SpaceError: no room for the checkpoint.
    """
    check_pins(recipe, folders)
    models = open_fitting({name: folders[name] for name in recipe.sources}, recipe.tokenizer_from)
    return write_model(recipe, models.basis, out)
