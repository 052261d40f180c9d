"""Static merges against hand-worked values and an independent TIES."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from made.models import toy_checkpoint
from psomerge.arithmetic.masks import magnitude_threshold
from psomerge.errors import ConfigError
from psomerge.merge.basis import open_basis
from psomerge.merge.methods.steps import disjoint_mean, elect
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source, from_dict


def source(name: str) -> Source:
    return Source(name, name, "0" * 40)


RECIPE = Recipe(base=source("base"), experts=(source("a"), source("b")))


def test_linear_normalises_its_weights():
    assert METHODS["linear"].recipe(RECIPE, [3, 1]).coefficients == ((0.75, 0.25),)


def test_task_arithmetic_scales_its_weights():
    assert METHODS["task_arithmetic"].recipe(RECIPE, [1, 2], scale=0.5).coefficients == ((0.5, 1.0),)


def test_dare_weighs_only_the_sparsified_copies():
    recipe = METHODS["dare"].recipe(RECIPE, [1, 2], drop_rate=0.9)
    assert recipe.coefficients == ((0.0, 0.0, 1.0, 2.0),)
    assert recipe.drop_rate == 0.9


@pytest.mark.parametrize(
    ("method", "weights", "options"),
    [
        ("linear", [1, -1], {}),
        ("ties", [1, 1], {"density": 0}),
        ("ties", [-1, 1], {}),
        ("dare", [1, 1], {"drop_rate": 1}),
    ],
)
def test_impossible_parameters_are_refused(method, weights, options):
    with pytest.raises(ConfigError):
        METHODS[method].recipe(RECIPE, weights, **options)


def test_ties_elects_the_heavier_sign_and_averages_only_what_agrees():
    # Column 1: all agree, mean 2. Column 2: +3 against -1 elects +, only 3 counts. Column 3: -4 against +1+1 elects -.
    # Column 4: nothing left. Column 5: an exact tie elects +.
    trimmed = [torch.tensor([1.0, 3, -4, 0, 2]), torch.tensor([3.0, -1, 1, 0, -2]), torch.tensor([2.0, 0, 1, 0, 0])]
    assert disjoint_mean(trimmed, elect(trimmed), [1, 1, 1]).tolist() == [2, 3, -4, 0, 2]


def test_ties_weights_act_in_the_average_but_not_in_the_election():
    # Signs are elected on 5 against -4 although the second expert weighs ten times as much.
    trimmed = [torch.tensor([5.0, 2.0]), torch.tensor([-4.0, 4.0])]
    assert disjoint_mean(trimmed, elect(trimmed), [1, 10]).tolist() == pytest.approx([5, 42 / 11])


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 1.0])
def test_the_trim_threshold_is_the_smallest_of_the_largest_share(density):
    delta = torch.randn(37, 91, generator=torch.Generator().manual_seed(5)) * torch.logspace(-6, 2, 91)
    kept = max(1, round(density * delta.numel()))
    found = magnitude_threshold(lambda piece: delta.flatten()[piece], delta.numel(), density)
    assert found == float(delta.abs().flatten().sort(descending=True).values[kept - 1])


def test_ties_equals_an_independent_implementation_on_whole_tensors(tmp_path: Path):
    generator = torch.Generator().manual_seed(2)
    raw = {name: torch.randn(50, 30, generator=generator) for name in ("base", "a", "b")}
    folders = {name: toy_checkpoint(tmp_path / name, {"w": tensor}) for name, tensor in raw.items()}
    recipe = METHODS["ties"].recipe(RECIPE, [1.0, 2.0], scale=0.7, density=0.4)
    merged = open_basis(folders).merged_tensor(recipe, "w")

    expected = raw["base"].double().clone()
    deltas = [(raw[name] - raw["base"]).double() for name in ("a", "b")]
    for delta in deltas:
        order = delta.abs().flatten().argsort()
        delta.view(-1)[order[: delta.numel() - round(0.4 * delta.numel())]] = 0
    for i in range(50):
        for j in range(30):
            values = [float(delta[i, j]) for delta in deltas]
            sign = 1 if sum(values) >= 0 else -1
            agreeing = [(w, v) for w, v in zip((1.0, 2.0), values, strict=True) if v * sign > 0]
            if agreeing:
                expected[i, j] += 0.7 * sum(w * v for w, v in agreeing) / sum(w for w, _ in agreeing)
    assert torch.allclose(merged.double(), expected, atol=1e-6)


def test_ties_of_an_empty_tensor_is_empty(tmp_path: Path):
    folders = {
        name: toy_checkpoint(tmp_path / name, {"w": torch.ones(2, 3), "none": torch.ones(0, 3)})
        for name in ("base", "a", "b")
    }
    merged = open_basis(folders).merged_tensor(METHODS["ties"].recipe(RECIPE, [1.0, 1.0]), "none")
    assert merged.shape == (0, 3)


def test_a_recipe_survives_json_to_the_last_bit():
    recipe = RECIPE.with_coefficients([[0.1 + 0.2, 1 / 3]])
    assert from_dict(recipe.to_dict()).coefficients == recipe.coefficients
    assert from_dict(recipe.to_dict()).digest() == recipe.digest()


def test_a_recipe_digest_changes_with_coefficients_and_masks_but_not_with_the_place_of_the_files():
    moved = Recipe(base=Source("base", "elsewhere", "1" * 40), experts=RECIPE.experts)
    assert moved.digest() == RECIPE.digest()
    assert RECIPE.with_coefficients([[1, 2]]).digest() != RECIPE.with_coefficients([[2, 1]]).digest()
    dare = METHODS["dare"].recipe
    assert dare(RECIPE, [1, 1], drop_rate=0.5).digest() != dare(RECIPE, [1, 1], drop_rate=0.6).digest()


def test_a_recipe_digest_knows_that_masks_without_weight_change_nothing():
    plain = RECIPE.with_coefficients([[1, 2]])
    assert RECIPE.with_coefficients([[1, 2, 0, 0]]).digest() == plain.digest()
    assert replace(plain, drop_rate=0.5, mask_seed=7).digest() == plain.digest()
    assert RECIPE.with_coefficients([[1, 2, 0, 1]]).digest() != plain.digest()
    assert RECIPE.with_coefficients([[0, 0, 1, 2]]).digest() != plain.digest()
