"""A model as the command line names it: one checkpoint, wherever it lives, or a recipe over several."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psomerge import recipe as recipes
from psomerge.materialize import check_pins
from psomerge.pins import pin
from psomerge.recipe import Recipe
from tasks.fetch import Progress, fetch


@dataclass(frozen=True)
class NamedModel:
    """What an engine needs of a model: a recipe, and the local folder of its base and of each expert."""

    address: str
    """As given."""
    recipe: Recipe
    folders: Mapping[str, Path]


def named_model(address: str, home: Path, progress: Progress) -> NamedModel:
    """Returns the model of an address, fetched and pinned.

    Args:
        address: a recipe's path (it ends in .json), or a checkpoint as of `tasks.fetch`.
        home: PSOMERGE_HOME.
        progress: as of `tasks.fetch`.

    Raises:
        ArtefactError: a recipe or a checkpoint that is broken, or files that are not those that the recipe pins.
        ConfigError, ServiceError, SpaceError: as `tasks.fetch.fetch`.
    """
    if not address.endswith(".json"):
        folder = fetch(address, home, progress)
        return NamedModel(address, Recipe(pin(folder, "base", address), ()), {"base": folder})
    recipe = recipes.read(Path(address))
    folders = {source.name: fetch(source.source, home, progress) for source in (recipe.base, *recipe.experts)}
    check_pins(recipe, folders)
    return NamedModel(address, recipe, folders)
