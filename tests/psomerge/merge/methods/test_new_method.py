"""A method that is put into the table is everywhere: on the command line, in its help, in tensors, recipes and
baselines."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from made.models import tiny_llama, toy_checkpoint
from psomerge.errors import ConfigError
from psomerge.flows.config.loading import load_config
from psomerge.merge.basis import Basis, open_basis
from psomerge.merge.methods.method import Grid, Parameter, settled
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source
from psomerge.tasks.search.baselines import tune
from runs.command_line import psomerge
from runs.scripted_judging import ITEMS, built, capitals, judging, recipe_of, scripted
from runs.small_run import perturbed, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


class Largest:
    """theta_0 + strength tau, tau the entry of the largest magnitude of all task vectors, the first of equals."""

    name = "largest"
    parameters = (Parameter("strength", 1.0, "how far from the base", 0, 2, with_low=True),)
    grid = Grid("largest", "largest entries ({strength:g})", tuple({"strength": one} for one in (0.5, 1.0, 1.5)))

    @property
    def form(self) -> "Largest":
        return self

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        return replace(plain, method=self.name, coefficients=(tuple(weights),), parameters=settled(self, parameters))

    def misfit(self, recipe: Recipe) -> str:
        return "" if len(recipe.coefficients) == 1 else "expected one row of weights"

    def tensor(self, basis: Basis, recipe: Recipe, name: str, rows: slice | None) -> Tensor:
        base = basis.base.tensor(name, rows).float()
        merged = torch.zeros_like(base)
        for expert in basis.experts:
            delta = expert.tensor(name, rows).float() - base
            merged = torch.where(delta.abs() > merged.abs(), delta, merged)
        return base + recipe.parameters["strength"] * merged


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "largest", Largest())


def test_the_help_tells_its_name_and_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "psomerge.flows.cli", raising=False)  # help is put together as it is imported
    said = " ".join(psomerge("merge", "--help", home=tmp_path).out.split())
    assert "linear, task_arithmetic, dare, ties or largest" in said
    assert "largest: strength=1 in [0, 2), how far from the base." in said


def test_the_command_merges_by_it_and_its_recipe_rebuilds_the_same_bytes(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", 0)
    one, two = (perturbed(base, tmp_path / name, seed) for seed, name in enumerate(("one", "two"), 1))
    models = ["--base", base, "--expert", one, "--expert", two]
    said = psomerge("merge", "largest", *models, "--set", "strength=0.5", "--out", tmp_path / "out", home=tmp_path)
    assert said.code == 0, said.err
    said = psomerge("materialize", tmp_path / "out" / "recipe.json", "--out", tmp_path / "again", home=tmp_path)
    assert said.code == 0, said.err
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files

    found, before, *experts = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", base, one, two))
    for name, tensor in before.items():
        first, second = (expert[name].double() - tensor.double() for expert in experts)
        expected = tensor.double() + 0.5 * torch.where(first.abs() >= second.abs(), first, second)
        torch.testing.assert_close(found[name].double(), expected, rtol=2**-8, atol=1e-6)  # bfloat16, rounded once


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("strenght=1", "--set strenght=1: largest has no parameter 'strenght'; did you mean strength?"),
        ("strength=2", "largest: strength must lie in [0, 2), found 2.0"),
    ],
)
def test_its_parameters_are_checked_before_anything_is_opened(tmp_path: Path, setting: str, words: str) -> None:
    models = ["--base", "no-such-folder", "--expert", "nor-this-one", "--out", tmp_path / "out"]
    said = psomerge("merge", "largest", *models, "--set", setting, home=tmp_path)
    assert (said.code, said.line) == (2, words)


def test_its_tensors_are_those_of_the_formula_and_any_rows_alone_have_the_same_bits(tmp_path: Path) -> None:
    # Task vectors [[1, -3], [2, 0], [-1, 1]] and [[-2, 1], [2, 4], [0.5, -1]]; of equals, in the last row, the first.
    values = {
        "base": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],
        "a": [[2.0, -2.0], [4.0, 2.0], [2.0, 4.0]],
        "b": [[-1.0, 2.0], [4.0, 6.0], [3.5, 2.0]],
    }
    basis = open_basis(
        {name: toy_checkpoint(tmp_path / name, {"w": torch.tensor(one)}) for name, one in values.items()}
    )
    plain = Recipe(Source("base", "", ""), (Source("a", "", ""), Source("b", "", "")))
    recipe = METHODS["largest"].recipe(plain, [1.0, 1.0], strength=0.5)
    merged = basis.merged_tensor(recipe, "w")
    assert merged.tolist() == [[0.0, -0.5], [3.0, 4.0], [2.5, 3.5]]
    assert dict(basis.merged_tensors(recipe))["w"].equal(merged)
    assert all(basis.merged_tensor(recipe, "w", slice(row, row + 1)).equal(merged[row : row + 1]) for row in range(3))


def test_configs_may_name_it_as_a_baseline_and_a_plan_counts_its_settings(tmp_path: Path) -> None:
    small = small_run(tmp_path)
    counts = []
    for names in ("[average]", "[average, largest]"):
        said = psomerge("plan", small.config, "--json", "--set", f"compare.baselines={names}", home=small.home)
        assert said.code == 0, said.err
        counts.append(json.loads(said.out)["judgements"])
    assert counts[1] - counts[0] == 3 + 1  # its settings, and its row of the test table


def test_it_is_tuned_as_a_baseline(tmp_path: Path) -> None:
    suite = capitals(tmp_path)
    sets = built(suite, tiny_llama(tmp_path / "tiny"))
    engine = scripted(sets, lambda recipe, split: ITEMS - (recipe.parameters["strength"] == 0.5))
    tuned = tune("largest", recipe_of(2), judging(tmp_path, suite, sets, engine))
    assert tuned is not None
    assert [one.parameters["strength"] for one in engine.judged] == [0.5, 1.0, 1.5]
    assert (tuned.label, tuned.judgements) == ("largest entries (1)", 3)  # the first of the two best


def test_an_unknown_baseline_is_refused_with_the_nearest(tmp_path: Path) -> None:
    small = small_run(tmp_path)
    with pytest.raises(ConfigError, match=r"compare\.baselines\.1: unknown baseline 'largets'; did you mean largest\?"):
        load_config(str(small.config), ["compare.baselines=[ties, largets]"])
