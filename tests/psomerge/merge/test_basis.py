"""The basis: coefficients to tensors, against plain formulas, bit for bit."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from made.models import toy_checkpoint
from psomerge.arithmetic.masks import keep, keep_threshold, mask_keys
from psomerge.errors import ArtefactError
from psomerge.merge.basis import Basis, open_basis
from psomerge.merge.grouping import GROUPINGS, groups
from psomerge.recipe import Recipe, Source

SHAPES = {
    "model.embed_tokens.weight": (40, 24),
    "model.layers.0.mlp.up_proj.weight": (300, 130),
    "model.layers.1.mlp.up_proj.weight": (7, 9),
    "model.norm.weight": (24,),
}


def checkpoint(folder: Path, seed: int, dtype: torch.dtype) -> Path:
    generator = torch.Generator().manual_seed(seed)
    return toy_checkpoint(
        folder, {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    )


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {
        name: checkpoint(tmp_path / name, seed, torch.bfloat16) for seed, name in enumerate(("base", "so", "tk", "eu"))
    }


def recipe_of(folders: dict[str, Path], coefficients: list[list[float]], **fields: object) -> Recipe:
    sources = {name: Source(name, str(folder), "0" * 40) for name, folder in folders.items()}
    recipe = Recipe(base=sources.pop("base"), experts=tuple(sources.values()), **fields)
    return recipe.with_coefficients(coefficients)


def tensors(basis: Basis, recipe: Recipe) -> dict[str, torch.Tensor]:
    return dict(basis.merged_tensors(recipe))


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and torch.equal(left.view(torch.uint8), right.view(torch.uint8))
    )


def test_a_merge_is_the_base_plus_weighted_task_vectors_rounded_once(folders):
    basis = open_basis(folders)
    merged = tensors(basis, recipe_of(folders, [[0.7, -0.2, 1.3]]))
    for name in SHAPES:
        base, *experts = (c.tensor(name).double() for c in (basis.base, *basis.experts))
        exact = base + sum(w * (expert - base) for w, expert in zip((0.7, -0.2, 1.3), experts, strict=True))
        # Rounding to bfloat16 (8 bits of mantissa) is half a unit of 2**-8; float32 sums add nothing visible.
        assert torch.all((merged[name].double() - exact).abs() <= 2**-8 * exact.abs() + 1e-6)
        assert merged[name].dtype == torch.bfloat16


def test_zeros_give_the_base_and_a_unit_vector_gives_the_expert(folders):
    basis = open_basis(folders)
    base, expert = tensors(basis, recipe_of(folders, [[0, 0, 0]])), tensors(basis, recipe_of(folders, [[0, 1, 0]]))
    assert all(torch.equal(base[name], basis.base.tensor(name)) for name in SHAPES)
    assert all(torch.equal(expert[name], basis.experts[1].tensor(name)) for name in SHAPES)


def plain_mask(seed: int, expert: str, tensor: str, count: int, drop_rate: float) -> list[bool]:
    """The mask's definition with Python's unbounded integers."""

    def mix(value: int) -> int:
        value = ((value ^ (value >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        value = ((value ^ (value >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        return value ^ (value >> 16)

    first, second = (key & 0xFFFFFFFF for key in mask_keys(seed, expert, tensor, 0))
    hashes = [(mix(i ^ first) * second) & 0xFFFFFFFF for i in range(count)]
    # Hashes are compared as signed numbers, so the upper half comes first.
    return [(h ^ 0x80000000) < round((1 - drop_rate) * 2**32) for h in hashes]


def test_a_dare_copy_keeps_what_the_plain_hash_keeps_and_rescales_by_the_share_kept(folders):
    basis = open_basis(folders)
    recipe = recipe_of(folders, [[0, 0, 0, 0, 1.0, 0]], drop_rate=0.8, mask_seed=3, dtype="float32")
    name = "model.layers.0.mlp.up_proj.weight"
    base, expert = basis.base.tensor(name).double(), basis.experts[1].tensor(name).double()
    mask = torch.tensor(plain_mask(3, "tk", name, base.numel(), 0.8)).reshape(base.shape)
    expected = base + mask * (expert - base) / 0.2
    assert torch.allclose(basis.merged_tensor(recipe, name).double(), expected, rtol=1e-6, atol=1e-6)
    assert 0.19 < mask.double().mean() < 0.21


def test_any_range_of_rows_alone_has_the_bits_of_the_whole(folders):
    basis = open_basis(folders)
    draw = random.Random(1)
    for recipe in (
        recipe_of(folders, [[0.3, 0.5, -0.4, 0.9, 0.2, 0.7]]),
        replace(recipe_of(folders, [[1, 1, 2]]), method="ties", parameters={"density": 0.3, "scale": 0.8}),
    ):
        for name, shape in SHAPES.items():
            whole = basis.merged_tensor(recipe, name)
            for _ in range(5):
                begin = draw.randrange(shape[0])
                end = draw.randrange(begin + 1, shape[0] + 1)
                assert same_bits(basis.merged_tensor(recipe, name, slice(begin, end)), whole[begin:end])


def test_one_and_two_threads_give_equal_bits(folders):
    basis, recipe = open_basis(folders), recipe_of(folders, [[0.3, 0.5, -0.4, 0.9, 0.2, 0.7]])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = tensors(basis, recipe)
        torch.set_num_threads(2)
        two = tensors(basis, recipe)
    finally:
        torch.set_num_threads(threads)
    assert all(same_bits(one[name], two[name]) for name in SHAPES)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_the_compiled_pass_has_the_bits_of_the_eager_one(folders):
    eager, compiled = open_basis(folders, compiled=False), open_basis(folders, compiled=True)
    for coefficients in ([0.31, 0.57, -0.43, 0.9, 0.2, 0.7], [1.1, -0.3, 0.77]):
        recipe = recipe_of(folders, [coefficients])
        left, right = tensors(eager, recipe), tensors(compiled, recipe)
        assert all(same_bits(left[name], right[name]) for name in SHAPES)


def test_groups_take_their_own_row_of_coefficients(folders):
    names = list(open_basis(folders).base.tensors)
    assert groups(names, "layers") == {names[0]: 0, names[1]: 1, names[2]: 2, names[3]: 0}
    basis = open_basis(folders)
    merged = tensors(basis, recipe_of(folders, [[0, 0, 0], [1, 0, 0], [0, 0, 1]], grouping="layers"))
    expected = [basis.base, basis.experts[0], basis.experts[2], basis.base]
    assert all(torch.equal(merged[name], owner.tensor(name)) for name, owner in zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "embedding"),
        ("shared.weight", "embedding"),
        ("transformer.wte.weight", "embedding"),
        ("transformer.wpe.weight", "embedding"),
        ("model.layers.0.self_attn.q_norm.weight", "norm"),
        ("encoder.block.0.layer.0.layer_norm.weight", "norm"),
        ("transformer.h.0.ln_1.weight", "norm"),
        ("model.layers.0.self_attn.q_proj.weight", "attention"),
        ("decoder.block.0.layer.1.EncDecAttention.q.weight", "attention"),
        ("transformer.h.0.attn.c_attn.weight", "attention"),
        ("model.layers.0.mlp.gate_proj.weight", "feed-forward"),
        ("model.layers.0.mlp.shared_expert.up_proj.weight", "feed-forward"),
        ("encoder.block.0.layer.1.DenseReluDense.wi.weight", "feed-forward"),
    ],
)
def test_kinds_are_told_by_the_names_of_every_architecture(name: str, kind: str) -> None:
    assert GROUPINGS["kinds"](name) == kind


def test_a_group_without_dare_copies_stands_beside_groups_with_them(folders):
    names = list(open_basis(folders).base.tensors)
    basis, copies = open_basis(folders), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    merged = tensors(basis, recipe_of(folders, [[1, 0, 0], copies, [0, 0, 1]], grouping="layers"))
    assert torch.equal(merged[names[0]], basis.experts[0].tensor(names[0]))
    assert torch.equal(merged[names[1]], basis.merged_tensor(recipe_of(folders, [copies]), names[1]))
    assert not torch.equal(merged[names[1]], basis.base.tensor(names[1]))


def test_a_recipe_of_other_experts_or_of_too_few_groups_is_refused(folders):
    basis = open_basis(folders)
    fewer = {name: folders[name] for name in ("base", "so")}
    with pytest.raises(ArtefactError, match="this basis holds"):
        tensors(basis, recipe_of(fewer, [[1.0]]))
    with pytest.raises(ArtefactError, match="has 3 groups, the recipe has 1 rows"):
        tensors(basis, recipe_of(folders, [[1, 1, 1]], grouping="layers"))


@pytest.mark.parametrize("drop_rate", [0.0, 0.2, 0.8, 0.95])
def test_masks_keep_the_share_asked_for_and_are_independent_of_neighbours_and_of_other_experts(drop_rate):
    count = 400_000
    index = torch.arange(count, dtype=torch.int32)

    def mask(expert: str) -> torch.Tensor:
        first, second = (torch.tensor(key, dtype=torch.int32) for key in mask_keys(0, expert, "w", 0))
        return keep(index, first, second, torch.tensor(keep_threshold(drop_rate), dtype=torch.int32)).double()

    one, other, share = mask("so"), mask("tk"), 1 - drop_rate
    deviation = (share * drop_rate / count) ** 0.5
    assert abs(one.mean() - share) <= 5 * deviation + 1e-9
    if drop_rate:
        for pair in ((one, other), (one[1:], one[:-1]), (one[64:], one[:-64])):
            assert abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) < 5 / count**0.5


def test_masks_of_four_experts_are_independent_of_each_other_all_together():
    count, share = 2_000_000, 0.2
    index = torch.arange(count, dtype=torch.int32)
    threshold = torch.tensor(keep_threshold(1 - share), dtype=torch.int32)
    kept = torch.zeros(count, dtype=torch.int64)
    for expert in ("so", "tk", "eu", "skill"):
        first, second = (torch.tensor(key, dtype=torch.int32) for key in mask_keys(0, expert, "w", 0))
        kept += keep(index, first, second, threshold)
    # How many of four independent coins of 0.2 show heads: a binomial distribution, each count within five standard
    # deviations.
    for heads, ways in enumerate((1, 4, 6, 4, 1)):
        expected = ways * share**heads * (1 - share) ** (4 - heads)
        deviation = (expected * (1 - expected) / count) ** 0.5
        assert abs(float((kept == heads).double().mean()) - expected) < 5 * deviation


@pytest.mark.parametrize("threads", [1, 2])
def test_a_tensor_that_is_held_is_never_written_to_again(folders, threads):
    basis = open_basis(folders)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Only views are held, one of them a single row, while two more models are made.
        held = {
            name: (tensor[:1], tensor[:1].clone())
            for name, tensor in basis.merged_tensors(recipe_of(folders, [[0.3, 0.5, -0.4]]))
        }
        for coefficients in ([[1, 1, 1]], [[-1, 0, 2]]):
            tensors(basis, recipe_of(folders, coefficients))
    finally:
        torch.set_num_threads(before)
    assert all(same_bits(view, copy) for view, copy in held.values())


def test_memory_of_a_tensor_that_is_let_go_of_is_used_again(folders):
    basis, recipe = open_basis(folders), recipe_of(folders, [[0.3, 0.5, -0.4]])
    name = next(iter(SHAPES))
    places = {basis.merged_tensor(recipe, name).data_ptr() for _ in range(5)}
    assert len(places) == 1
