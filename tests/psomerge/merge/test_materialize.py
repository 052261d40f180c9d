"""From a recipe to a checkpoint: the same bits from sharded and single files, on one thread and on two, and only from
the pinned sources."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.models import toy_checkpoint
from psomerge.checkpoint.pins import pin
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.checkpoint.writer import write_checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.merge.basis import open_basis
from psomerge.merge.materialize import write_model
from psomerge.recipe import Recipe, read
from psomerge.tasks.experts.rebuild import rebuild

NAMES = ("base", "so", "tk")
SHAPES = {
    "model.embed_tokens.weight": (64, 32),
    "model.layers.0.mlp.up_proj.weight": (96, 32),
    "model.norm.weight": (32,),
}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    def checkpoint(name: str, seed: int) -> Path:
        generator = torch.Generator().manual_seed(seed)
        return toy_checkpoint(
            tmp_path / name, {key: torch.randn(shape, generator=generator).bfloat16() for key, shape in SHAPES.items()}
        )

    return {name: checkpoint(name, seed) for seed, name in enumerate(NAMES)}


def recipe_of(folders: dict[str, Path]) -> Recipe:
    sources = {name: pin(folder, name, str(folder)) for name, folder in folders.items()}
    return Recipe(sources["base"], (sources["so"], sources["tk"]), mask_seed=7).with_coefficients(
        [[0.3, 0.9, 0.25, -0.1]]
    )


def bits(folder: Path) -> dict[str, bytes]:
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return {name: tensor.view(torch.uint8).numpy().tobytes() for name, tensor in tensors.items()}


def sharded(folder: Path, out: Path) -> Path:
    checkpoint = open_checkpoint(folder)
    tensors = [(name, checkpoint.tensor(name)) for name in checkpoint.tensors]
    write_checkpoint(out, tensors, checkpoint, checkpoint, "base", shard_bytes=3000)
    assert len(list(out.glob("*.safetensors"))) > 1
    return out


def test_sharded_and_single_file_experts_on_one_and_two_threads_give_equal_bits(tmp_path, folders):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        rebuild(recipe_of(folders), folders, tmp_path / "single")
        torch.set_num_threads(2)
        shards = {name: sharded(folder, tmp_path / f"{name}-sharded") for name, folder in folders.items()}
        rebuild(recipe_of(shards), shards, tmp_path / "from-shards")
    finally:
        torch.set_num_threads(threads)
    assert bits(tmp_path / "single") == bits(tmp_path / "from-shards")


def test_what_was_written_is_rebuilt_from_its_own_recipe_file(tmp_path, folders):
    first = rebuild(recipe_of(folders), folders, tmp_path / "first")
    again = rebuild(read(tmp_path / "first" / "recipe.json"), folders, tmp_path / "again")
    assert first == again
    assert bits(tmp_path / "first") == bits(tmp_path / "again")


def test_a_source_that_changes_while_it_is_merged_leaves_nothing(tmp_path, folders):
    basis = open_basis(folders)
    with (folders["tk"] / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtefactError, match=r'"tk": .* changed while it was used'):
        write_model(recipe_of(folders), basis, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_changed_since_it_was_pinned_is_refused_and_nothing_is_written(tmp_path, folders):
    recipe = recipe_of(folders)
    tensors = load_file(folders["tk"] / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, folders["tk"] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtefactError, match=r"tk/model\.safetensors: expected SHA-256 .* as pinned"):
        rebuild(recipe, folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_not_written_over(tmp_path, folders):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError):
        rebuild(recipe_of(folders), folders, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "expected recipe format 1"),
        ({"method": "magic"}, "unknown method"),
        ({"dtype": "int8"}, "unknown dtype"),
        ({"drop_rate": 1.0}, "drop_rate must lie"),
        ({"coefficients": [[1.0]]}, "need 2 or 4 coefficients"),
        ({"coefficients": [[float("nan"), 1, 1, 1]]}, "not a recipe"),
        ({"surprise": 1}, "not a recipe"),
    ],
)
def test_a_damaged_recipe_is_refused_with_what_is_wrong(tmp_path, folders, change, expected):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe_of(folders).to_dict() | change))
    with pytest.raises(ArtefactError, match=expected):
        rebuild(read(path), folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()
