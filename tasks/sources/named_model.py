"""A model as the command line names it: one checkpoint, wherever it lives, or a recipe over several."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from psomerge import recipe as recipes
from psomerge.merge.materialize import check_pins
from psomerge.merge.methods.table import form_of
from psomerge.recipe import Recipe
from psomerge.tasks.sources.address import is_recipe
from psomerge.tasks.sources.fetch import fetch, pin_fetched
from psomerge.tasks.sources.origin import Progress
from psomerge.tasks.tracking.store import Store


@dataclass(frozen=True)
class NamedModel:
    """What an engine needs of a model: a recipe, and the local folder of its base and of each expert."""

    address: str
    """As given."""
    source: str
    """With the commit or version instead of a branch, tag or alias."""
    recipe: Recipe
    folders: Mapping[str, Path]


def named_model(address: str, home: Path, progress: Progress, store: Callable[[], Store]) -> NamedModel:
    """Returns the model of an address, fetched and pinned; an alias means the version that it names now.

    Args:
        address: a recipe's path (it ends in .json and is no folder), or a checkpoint as of `tasks.sources.fetch`.
        home: PSOMERGE_HOME.
        progress: as of `tasks.sources.origin.Access`.
        store: gives the model registry.

    Raises:
        ArtefactError: a recipe or a checkpoint that is broken, or files that are not those that the recipe pins.
        PsomergeError: as `tasks.sources.fetch.fetch`.
    """
    if not is_recipe(address):
        fetched = fetch(address, home, progress, store=store)
        return NamedModel(address, fetched.source, Recipe(pin_fetched("base", fetched), ()), {"base": fetched.folder})
    recipe = recipes.read(Path(address))
    form_of(recipe, address)
    folders = {
        name: fetch(source.source, home, progress, store=store).folder for name, source in recipe.sources.items()
    }
    check_pins(recipe, folders)
    return NamedModel(address, address, recipe, folders)
