"""Recipes that earlier versions wrote rebuild to the bytes that those versions wrote."""

import hashlib
from pathlib import Path

import pytest
import torch

from made.models import toy_checkpoint
from psomerge.recipe import read
from psomerge.tasks.experts.rebuild import rebuild

NAMES = ("base", "so", "tk")
SHAPES = {
    "model.embed_tokens.weight": (48, 16),
    "model.layers.0.mlp.up_proj.weight": (40, 16),
    "model.layers.1.mlp.up_proj.weight": (40, 16),
    "model.norm.weight": (16,),
}

RECIPE = """{
  "format": 1,
  "base": {"name": "base", "source": "base", "revision": "0", "files": {}},
  "experts": [
    {"name": "so", "source": "so", "revision": "0", "files": {}},
    {"name": "tk", "source": "tk", "revision": "0", "files": {}}
  ],
  "method": %s,
  "coefficients": %s,
  "grouping": %s,
  "drop_rate": 0.6,
  "mask_seed": 7,
  "parameters": %s,
  "dtype": %s,
  "tokenizer_from": "base",
  "vocabulary": "",
  "psomerge": "0.1.0"
}"""

# Method, coefficients, grouping, parameters and dtype of a recipe; the SHA-256 of its model.safetensors, computed with
# the code as it was before methods had a table of their own (commit ac5017c). They never change.
WRITTEN = {
    "DARE copies": (
        ('"coefficients"', "[[0.3, 0.9, 0.25, -0.1]]", '"model"', "{}", '"base"'),
        "8f8764539c89c7476909c6510f8c32258833d0a408a967d1435acd8848020022",
    ),
    "layers": (
        ('"coefficients"', "[[0.1, 0.7], [1.3, -0.2], [0.5, 0.5]]", '"layers"', "{}", '"base"'),
        "d8c66492a4ab757a15c74c0adbaea4569d97bef1b4e115d1c426a609e1fb8e09",
    ),
    "TIES": (
        ('"ties"', "[[1.0, 2.0]]", '"model"', '{"density": 0.3, "scale": 0.8}', '"base"'),
        "f9f145d4753aaae2bebee7e118b5fed2690eabc5b2c2ac051c6077234a0eab8a",
    ),
    "TIES in float32": (
        ('"ties"', "[[0.1, 0.7]]", '"model"', '{"density": 0.5, "scale": 1.5}', '"float32"'),
        "8ea73b8867e266a9680cd3ec1c156e66474822d5eb76b58859b6aceeab7ea2dc",
    ),
    "TIES by layers": (
        ('"ties"', "[[1, 2], [3, 1], [0, 1]]", '"layers"', '{"density": 0.2, "scale": 1.0}', '"base"'),
        "80bd4f7c181552fec778e7365170edf5b5682ef7df36b47853ba62ceb68ef855",
    ),
}


def checkpoint(folder: Path, number: int) -> Path:
    """Integers of a fixed formula over 64: exact in bfloat16, equal wherever it is computed."""

    def values(place: int, shape: tuple[int, ...]) -> torch.Tensor:
        index = torch.arange(torch.Size(shape).numel())
        return (((index * index * (3 + number) + index * (7 + 5 * place) + 11 * number) % 251 - 125) / 64).reshape(
            shape
        )

    return toy_checkpoint(
        folder, {name: values(place, shape).bfloat16() for place, (name, shape) in enumerate(SHAPES.items())}
    )


@pytest.mark.parametrize(("fields", "digest"), WRITTEN.values(), ids=WRITTEN)
def test_a_recipe_of_before_rebuilds_to_the_same_bytes(tmp_path: Path, fields: tuple[str, ...], digest: str) -> None:
    folders = {name: checkpoint(tmp_path / name, number) for number, name in enumerate(NAMES)}
    (tmp_path / "recipe.json").write_text(RECIPE % fields)
    rebuild(read(tmp_path / "recipe.json"), folders, tmp_path / "out")
    assert hashlib.sha256((tmp_path / "out" / "model.safetensors").read_bytes()).hexdigest() == digest
