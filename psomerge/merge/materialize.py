"""From a recipe to a checkpoint on disk: any particle ever judged, with the bits that were judged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from psomerge.checkpoint.pins import file_digests
from psomerge.checkpoint.writer import write_checkpoint
from psomerge.errors import ArtefactError
from psomerge.fit.misfits import check_buffers, check_fit
from psomerge.merge.basis import Basis, basis_of, open_models
from psomerge.recipe import Recipe, Source, to_bytes


def materialize(recipe: Recipe, folders: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Writes the recipe's model to `out` (durably, all or nothing) and returns the SHA-256 of every file by name.

    Args:
        recipe: its sources are checked against the local files by digest.
        folders: local folder of `base` and of every expert by name.
        out: must not exist, or be empty.

    Raises:
        ArtefactError: a file differs from what the recipe pins, or the checkpoints do not fit.
        SpaceError: no room for the checkpoint.
    """
    check_pins(recipe, folders)
    base, experts = open_models(
        {"base": folders["base"]} | {expert.name: folders[expert.name] for expert in recipe.experts}
    )
    check_fit(base, experts)
    check_buffers(base, experts)
    return write_model(recipe, basis_of(base, experts, recipe.tokenizer_from), out)


def write_model(
    recipe: Recipe, basis: Basis, out: Path, pins: Callable[[], Mapping[str, Source]] | None = None
) -> dict[str, str]:
    """Writes the recipe's model from an opened basis, its `recipe.json` beside it; see `materialize`.

    Args:
        pins: returns the sources to write down instead of the recipe's own, by name; asked when the tensors are made.

    Raises:
        ArtefactError: a file of weights changed while it was read.
    """

    def recipe_file() -> dict[str, bytes]:
        basis.check_unchanged()
        if pins is None:
            return {"recipe.json": to_bytes(recipe)}
        found = pins()
        return {
            "recipe.json": to_bytes(
                replace(recipe, base=found["base"], experts=tuple(found[expert.name] for expert in recipe.experts))
            )
        }

    return write_checkpoint(
        out,
        basis.merged_tensors(recipe),
        basis.base,
        basis.named(recipe.tokenizer_from),
        recipe.dtype,
        beside=recipe_file,
    )


def check_pins(recipe: Recipe, folders: Mapping[str, Path]) -> None:
    """Raises ArtefactError, naming the first file whose SHA-256 is not the one that the recipe pins."""
    for name, source in [("base", recipe.base), *((expert.name, expert) for expert in recipe.experts)]:
        found = file_digests(folders[name])
        for file, digest in source.files.items():
            if found.get(file) != digest:
                raise ArtefactError(
                    f"{folders[name] / file}: expected SHA-256 {digest[:12]}... as pinned by the recipe, found "
                    f"{(found.get(file) or 'no such file')[:12]}; "
                    f"fetch {source.source} at revision {source.revision[:12]} again"
                )
