"""LoRA adapters as experts: what PEFT's own merge makes of each, coefficients on the product, one product at a time;
all else is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.adapters import ALL_LINEAR, change, lora, merged_by_peft
from made.models import tiny_llama
from psomerge.arithmetic.masks import keep, keep_threshold, mask_keys
from psomerge.checkpoint.adapter import Adapter, open_adapter, task_vector
from psomerge.checkpoint.pins import pin
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.merge.basis import Basis, open_basis
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

Q = "model.layers.0.self_attn.q_proj.weight"
KINDS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "r": 9},
    "patterns": {
        "rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 7, "^model.layers.0.self_attn.v_proj": 5},
        "alpha_pattern": {"up_proj": 3, "layers.0.self_attn.q_proj": 32},
    },
    "two modules": {"target_modules": ["q_proj", "down_proj"]},
    "one layer": {"layers_to_transform": [1]},
    "embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "head saved whole": {"modules_to_save": ["lm_head"], "target_modules": ["k_proj"]},
    "norm saved whole": {"modules_to_save": ["input_layernorm"], "target_modules": ["k_proj"]},
    "bfloat16": {"dtype": torch.bfloat16},
    "rank above size": {"r": 80},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False, dtype=torch.float32)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, Path]:
    """The base and two adapters of different ranks and modules."""
    folder = tmp_path_factory.mktemp("two")
    return {
        "base": base,
        "one": lora(base, folder / "one"),
        "two": lora(base, folder / "two", 2, r=7, target_modules=["q_proj", "up_proj", "embed_tokens"]),
    }


def recipe_of(folders: dict[str, Path], *coefficients: float, **fields) -> Recipe:
    sources = [pin(folder, name, str(folder)) for name, folder in folders.items()]
    return Recipe(sources[0], tuple(sources[1:]), coefficients=(coefficients,), **fields)


def merged(basis: Basis, recipe: Recipe) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in basis.merged_tensors(recipe)}


def written_whole(folders: dict[str, Path], place: Path) -> dict[str, Path]:
    """The same experts as full checkpoints, by PEFT's merge."""
    found = {"base": folders["base"]}
    for name in list(folders)[1:]:
        (place / name).mkdir(parents=True)
        (place / name / "config.json").write_text((folders["base"] / "config.json").read_text())
        save_file(
            {key: tensor.contiguous() for key, tensor in merged_by_peft(folders["base"], folders[name]).items()},
            place / name / "model.safetensors",
        )
        found[name] = place / name
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_with_coefficient_1_an_adapter_is_what_peft_makes_of_it(tmp_path: Path, base: Path, kind: str) -> None:
    folders = {"base": base, "one": lora(base, tmp_path / "one", **KINDS[kind])}
    expected, basis = merged_by_peft(base, folders["one"]), open_basis(folders)
    found = merged(basis, recipe_of(folders, 1.0))
    assert set(found) == set(expected)
    changed = {name for name in found if not torch.equal(found[name], basis.base.tensor(name))}
    assert changed
    for name, tensor in found.items():
        # PEFT rounds a product of bfloat16 factors to bfloat16 before it adds it; nothing else is rounded before the
        # sum.
        torch.testing.assert_close(
            tensor,
            expected[name],
            rtol=2**-8 if kind == "bfloat16" else 2e-6,
            atol=2**-9 if kind == "bfloat16" else 2e-6,
        )
        torch.testing.assert_close(basis.experts[0].tensor(name).float(), tensor, rtol=2e-6, atol=2e-6)


def test_a_transposed_layer_s_product_is_transposed_too(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path / "base"
    )
    folders = {
        "base": tmp_path / "base",
        "one": lora(tmp_path / "base", tmp_path / "one", target_modules=["c_attn", "c_fc"], fan_in_fan_out=True),
    }
    expected, found = (
        merged_by_peft(tmp_path / "base", folders["one"]),
        merged(open_basis(folders), recipe_of(folders, 1.0)),
    )
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=2e-6, atol=2e-6)
    assert found["transformer.h.0.attn.c_attn.weight"].shape == (32, 96)


def test_coefficients_act_on_products_and_not_on_factors(two: dict[str, Path]) -> None:
    basis = open_basis(two)
    found = merged(basis, recipe_of(two, 0.3, -0.7))
    wholes = [merged_by_peft(two["base"], two[name]) for name in ("one", "two")]
    for name, tensor in found.items():
        origin = basis.base.tensor(name).double()
        expected = origin + 0.3 * (wholes[0][name].double() - origin) - 0.7 * (wholes[1][name].double() - origin)
        torch.testing.assert_close(tensor, expected.float(), rtol=5e-6, atol=5e-6)
    # What mixing the factors would give is far from it.
    a, b = (
        load_file(two["one"] / "adapter_model.safetensors")[
            f"base_model.model.{Q.removesuffix('.weight')}.lora_{part}.weight"
        ]
        for part in "AB"
    )
    mixed = (0.3 * b) @ (0.3 * a) * 2
    assert (mixed - 0.3 * (b @ a) * 2).abs().max() > 0.1 * (b @ a).abs().max()


def test_an_adapter_beside_a_full_checkpoint_merges_as_both_would_in_full(tmp_path: Path, two: dict[str, Path]) -> None:
    whole = written_whole(two, tmp_path / "whole")
    mixed = {"base": two["base"], "one": whole["one"], "two": two["two"]}
    for coefficients in ((0.4, 0.6), (0.0, 1.0), (1.0, 0.0)):
        found, expected = (merged(open_basis(folders), recipe_of(folders, *coefficients)) for folders in (mixed, whole))
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=5e-6, atol=5e-6)


def test_dare_drops_entries_of_the_product_by_the_mask_that_a_full_expert_of_this_name_has(
    tmp_path: Path, two: dict[str, Path]
) -> None:
    whole = written_whole(two, tmp_path / "whole")
    settings = {"drop_rate": 0.75, "mask_seed": 5}
    found, expected = (
        merged(open_basis(folders), recipe_of(folders, 0.1, 0.2, 0.5, 0.4, **settings)) for folders in (two, whole)
    )
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=5e-6, atol=5e-6)
    # One entry by hand: kept or dropped by the mask's own definition.
    basis, only = open_basis(two), recipe_of(two, 0.0, 0.0, 1.0, 0.0, **settings)
    product = task_vector(basis.base, basis.experts[0], Q)(slice(0, 64)).double()
    first, second = (torch.tensor(key, dtype=torch.int32) for key in mask_keys(5, "one", Q, 0))
    kept = keep(
        torch.arange(64, dtype=torch.int32), first, second, torch.tensor(keep_threshold(0.75), dtype=torch.int32)
    )
    assert 0 < int(kept.sum()) < 64
    by_hand = basis.base.tensor(Q).reshape(-1)[:64].double() + torch.where(kept, 4 * product, 0.0)
    torch.testing.assert_close(merged(basis, only)[Q].reshape(-1)[:64], by_hand.float(), rtol=5e-6, atol=5e-6)


def test_ties_merges_adapters_as_full_experts(tmp_path: Path, two: dict[str, Path]) -> None:
    whole = written_whole(two, tmp_path / "whole")
    found, expected = (
        merged(open_basis(folders), METHODS["ties"].recipe(recipe_of(folders, 1.0, 1.0), [1.0, 1.0], density=0.3))
        for folders in (two, whole)
    )
    apart = sum(int((found[name] - expected[name]).abs().gt(1e-5).sum()) for name in found)
    assert apart <= 2e-4 * sum(
        tensor.numel() for tensor in found.values()
    )  # an entry at the threshold may fall on either side
    assert not torch.equal(found[Q], open_checkpoint(two["base"]).tensor(Q))


@pytest.mark.heavy
def test_any_rows_have_the_bits_that_they_have_in_the_whole(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "base", tied=False, dtype=torch.bfloat16, hidden=640, layers=1)
    folders = {"base": folder, "one": lora(folder, tmp_path / "one", target_modules=[*ALL_LINEAR, "embed_tokens"])}
    basis, recipe = open_basis(folders), recipe_of(folders, 0.5, 0.5, drop_rate=0.5)
    name = "model.layers.0.mlp.up_proj.weight"  # of 1280 rows, 384 a block
    whole = basis.merged_tensor(recipe, name)
    assert whole.dtype == torch.bfloat16
    for rows in (slice(0, 1), slice(3, 500), slice(383, 385), slice(384, 1280), slice(1279, 1280)):
        assert torch.equal(basis.merged_tensor(recipe, name, rows), whole[rows])
    eager, compiled = (merged(open_basis(folders, compiled=flag), recipe) for flag in (False, True))
    assert all(torch.equal(eager[key], compiled[key]) for key in eager)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert all(
                torch.equal(tensor, eager[key])
                for key, tensor in merged(open_basis(folders, compiled=False), recipe).items()
            )
    finally:
        torch.set_num_threads(threads)


def test_another_alpha_is_another_recipe(tmp_path: Path, base: Path) -> None:
    folders = {"base": base, "one": lora(base, tmp_path / "one")}
    before = recipe_of(folders, 1.0).digest()
    change(tmp_path / "one", lora_alpha=9)
    assert recipe_of(folders, 1.0).digest() != before


def test_an_adapter_s_file_that_changes_is_noticed(tmp_path: Path, base: Path) -> None:
    folders = {"base": base, "one": lora(base, tmp_path / "one")}
    basis = open_basis(folders)
    basis.check_unchanged()
    save_file(load_file(tmp_path / "one" / "adapter_model.safetensors"), tmp_path / "one" / "adapter_model.safetensors")
    with pytest.raises(ArtefactError, match="changed while it was used"):
        basis.check_unchanged()


REFUSED = {
    "DoRA": (
        {"use_dora": True},
        "use_dora is True, so this is no sum of the base and low-rank products; where you trust it, merge it into a "
        "checkpoint",
    ),
    "another method": ({"peft_type": "IA3"}, "expected peft_type LORA, found 'IA3'"),
    "activated later": ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens is"),
    "layers twice": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication is"),
    "a changed base": (
        {"init_lora_weights": "pissa_niter_4"},
        "init_lora_weights is 'pissa_niter_4', which changes the base beneath the adapter",
    ),
    "an unknown field": ({"use_of_tomorrow": 3}, "use_of_tomorrow is 3"),
    "no alpha": ({"lora_alpha": 0}, "lora_alpha is 0, expected a positive number"),
    "alpha that is no number": ({"lora_alpha": "8"}, "lora_alpha is '8', expected a positive number"),
    "another rank": (
        {"r": 5},
        r"module 'model.layers.0.mlp.down_proj' has factors of rank 4, adapter_config.json says 5.*; 6 more$",
    ),
    "a pattern that never ends": ({"alpha_pattern": {"(a+)+$": 1}}, "pattern '\\(a\\+\\)\\+\\$' is too involved"),
    "no pattern": ({"alpha_pattern": {"[": 1}}, "'\\[' is no regular expression"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_low_rank_sum_is_refused(tmp_path: Path, base: Path, kind: str) -> None:
    fields, words = REFUSED[kind]
    change(lora(base, tmp_path / "one"), **fields)
    with pytest.raises(ArtefactError, match=words) as caught:
        open_adapter(tmp_path / "one", open_checkpoint(base))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "one") in str(caught.value)


def spoiled(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Sets tensors of the adapter's file, `layer` for `.` and `A` or `B` at the end; None removes."""
    path = folder / "adapter_model.safetensors"
    content = load_file(path) | {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(
        {name: tensor for name, tensor in content.items() if name not in tensors or tensors[name] is not None}, path
    )


MODULE = f"base_model.model.{Q.removesuffix('.weight')}"
MISFITS = {
    "a factor missing": (
        {f"{MODULE}.lora_B.weight": None},
        r"module 'model.layers.0.self_attn.q_proj' has the factors A, expected A and B",
    ),
    "another shape": (
        {f"{MODULE}.lora_B.weight": torch.zeros(65, 4)},
        r"module 'model.layers.0.self_attn.q_proj' has a product of shape \[65, 64\], the base's tensor has \[64, 64\]",
    ),
    "ranks that differ": (
        {f"{MODULE}.lora_B.weight": torch.zeros(64, 5)},
        r"factors of shapes \[4, 64\] and \[64, 5\], expected \(rank, n\) and \(m, rank\)",
    ),
    "a module that the base has not": (
        {
            "base_model.model.model.layers.7.up.lora_A.weight": torch.zeros(4, 64),
            "base_model.model.model.layers.7.up.lora_B.weight": torch.zeros(64, 4),
        },
        r"changes 'model.layers.7.up.weight', which the base has not",
    ),
    "a magnitude": ({f"{MODULE}.lora_magnitude_vector": torch.zeros(64)}, "is no factor of a low-rank product"),
    "another prefix": (
        {"model.embed_tokens.weight": torch.zeros(4)},
        r"tensor 'model.embed_tokens.weight' has shape \[4\], the base \[256, 64\]; give the base",
    ),
    "another width": (
        {"base_model.model.lm_head.weight": torch.zeros(257, 32)},
        r"has shape \[257, 32\], the base \[256, 64\]",
    ),
    "a vocabulary resized in part": (
        {"base_model.model.lm_head.weight": torch.zeros(257, 64)},
        r"has resized lm_head\.weight, expected .*, all to as many",
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_an_adapter_that_does_not_fit_its_base_is_refused(tmp_path: Path, base: Path, kind: str) -> None:
    tensors, words = MISFITS[kind]
    spoiled(lora(base, tmp_path / "one"), **tensors)
    with pytest.raises(ArtefactError, match=words) as caught:
        open_adapter(tmp_path / "one", open_checkpoint(base), "one")
    of_the_file = ("a factor missing", "ranks that differ", "a magnitude")
    foreign = kind not in of_the_file
    assert ("give the base that it was trained on" in str(caught.value)) is foreign


def test_a_pickled_adapter_and_one_beside_a_checkpoint_are_refused(tmp_path: Path, base: Path) -> None:
    folder = lora(base, tmp_path / "one")
    (folder / "config.json").write_text("{}")  # some trainers leave their base's
    open_adapter(folder, open_checkpoint(base))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        ArtefactError, match=r"holds both an adapter \(adapter_config.json\) and a checkpoint \(model.safetensors\)"
    ):
        open_adapter(folder, open_checkpoint(base))
    (folder / "model.safetensors").unlink()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ArtefactError, match=r"has no adapter_model.safetensors; adapter_model.bin is a pickle"):
        open_adapter(folder, open_checkpoint(base))


def test_an_adapter_stands_for_a_checkpoint_with_files_of_its_own(tmp_path: Path, base: Path) -> None:
    folder = lora(base, tmp_path / "one")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    opened = open_adapter(folder, open_checkpoint(base, "base"), "one")
    assert isinstance(opened, Adapter)
    assert (opened.name, opened.folder, set(opened.tensors)) == ("one", folder, set(opened.base.tensors))
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"} == set(opened.files)
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
