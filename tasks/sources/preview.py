"""The models that a run will use, as far as they are known before the first gigabyte: wherever they live, side by side,
and everything that is wrong with them.

What can move is resolved here as fetching does; nobody is bound by it.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from psomerge import recipe as recipes
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import PsomergeError, together
from psomerge.merge.basis import open_expert
from psomerge.tasks.sources.address import is_recipe, parse
from psomerge.tasks.sources.origin import Access, Preview


def preview_all(addresses: Mapping[str, str], access: Access) -> tuple[dict[str, Preview], dict[str, PsomergeError]]:
    """Returns what is known of the models by name, and what each of the others failed with.

    Args:
        addresses: of `base` and the experts, by name; as of `tasks.sources.fetch.fetch`.
        access: to what may be used; its progress is told where another process has to be waited for.
    """

    def attempt(name: str, base: Checkpoint | None) -> Preview | PsomergeError:
        try:
            return _preview(name, addresses[name], access, base)
        except PsomergeError as error:
            return error

    # The base first: what the experts' tokenizers have in common with it is copied.
    found = {"base": attempt("base", None)}
    base = found["base"].checkpoint if isinstance(found["base"], Preview) else None
    experts = [name for name in addresses if name != "base"]
    with ThreadPoolExecutor(max_workers=max(1, len(experts))) as pool:
        found |= dict(zip(experts, pool.map(lambda name: attempt(name, base), experts), strict=True))
    previews = {name: one for name, one in found.items() if isinstance(one, Preview)}
    return previews, {name: one for name, one in found.items() if isinstance(one, PsomergeError)}


def look(address: str, access: Access) -> None:
    """Returns if there is such a model, as far as that is known without its weights.

    Args:
        address: of a checkpoint, or of a recipe, whose base and experts are looked at.
        access: as of `preview_all`.

    Raises:
        PsomergeError: as `tasks.sources.fetch.fetch`; a recipe that is broken.
    """
    if not is_recipe(address):
        _preview("model", address, access, None)
        return
    sources = recipes.read(Path(address)).sources
    _, failures = preview_all({name: one.source for name, one in sources.items()}, access)
    if failures:
        raise together([type(error)(f"{address}: {name}: {error}") for name, error in failures.items()])


def _preview(name: str, address: str, access: Access, base: Checkpoint | None) -> Preview:
    origin = parse(address).resolve(access)
    if found := origin.cached(access.home):
        opened = open_checkpoint(found.folder, name) if base is None else open_expert(found.folder, name, base)
        return Preview(found.source, opened)
    return origin.look(access, name, base)
