"""From a recipe and its opened models to a checkpoint on disk, with the bits that were judged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from psomerge.checkpoint.pins import file_digests
from psomerge.checkpoint.writer import write_checkpoint
from psomerge.errors import ArtefactError
from psomerge.merge.basis import Basis
from psomerge.recipe import Recipe, Source, to_bytes


def write_model(
    recipe: Recipe, basis: Basis, out: Path, pins: Callable[[], Mapping[str, Source]] | None = None
) -> dict[str, str]:
    """Writes the recipe's model, its `recipe.json` beside it, durably, all or nothing; returns the SHA-256 of every
    file by name.

    Args:
        recipe: over the models of the basis.
        basis: opened with the recipe's `tokenizer_from`.
        out: must not exist, or be empty.
        pins: returns the sources to write down instead of the recipe's own, by name; asked when the tensors are made.

    Raises:
        ArtefactError: a file of weights changed while it was read.
        SpaceError: no room for the checkpoint.
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
    for name, source in recipe.sources.items():
        found = file_digests(folders[name])
        for file, digest in source.files.items():
            if found.get(file) != digest:
                raise ArtefactError(
                    f"{folders[name] / file}: expected SHA-256 {digest[:12]}... as pinned by the recipe, found "
                    f"{(found.get(file) or 'no such file')[:12]}; "
                    f"fetch {source.source} at revision {source.revision[:12]} again"
                )
