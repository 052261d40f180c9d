"""`psomerge merge`, `check` and `materialize`: results equal formulas written plainly from files, pins hold, and no
service is imported."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from made.models import tiny_llama
from psomerge.arithmetic.masks import keep, keep_threshold, mask_keys
from runs.command_line import Said, psomerge
from runs.small_run import Small, perturbed, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

Tensors = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_llama(folder / "base", 0)
    perturbed(base, folder / "one", 1)
    perturbed(base, folder / "two", 2)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}


def merged(method: str, folder: Path, out: Path, *more: str, one: str = "one", two: str = "two") -> dict[str, Tensor]:
    arguments = ["--base", folder / "base", "--expert", folder / one, "--expert", folder / two, "--out", out, *more]
    said = psomerge("merge", method, *arguments, home=out.parent / "home")
    assert (said.code, said.err) == (0, ""), said.err
    assert load_file(out / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    assert not (out.parent / "home").exists()
    return tensors(out)


def equal(found: Tensors, expected: Tensors) -> None:
    """To the rounding of bfloat16: half a unit in the last of 8 binary digits."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=2**-8, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def each(folder: Path, formula: Callable[[Tensor, Tensor, Tensor, str], Tensor]) -> dict[str, Tensor]:
    base, one, two = (tensors(folder / name) for name in ("base", "one", "two"))
    return {name: formula(base[name], one[name], two[name], name) for name in base}


def test_linear_is_the_average_with_normalised_weights(folder: Path, tmp_path: Path) -> None:
    found = merged("linear", folder, tmp_path / "out", one="one=3", two="two=1")
    equal(found, each(folder, lambda base, one, two, name: (3 * one + two) / 4))


def test_task_arithmetic_adds_scaled_task_vectors(folder: Path, tmp_path: Path) -> None:
    found = merged("task_arithmetic", folder, tmp_path / "out", "--set", "scale=0.7", two="two=0.5")
    equal(found, each(folder, lambda base, one, two, name: base + 0.7 * ((one - base) + 0.5 * (two - base))))


def test_dare_drops_by_the_masks_and_rescales(folder: Path, tmp_path: Path) -> None:
    found = merged("dare", folder, tmp_path / "out", "--set", "drop_rate=0.6")

    def mask(expert: str, name: str, like: Tensor) -> Tensor:
        index, threshold = (
            torch.arange(like.numel(), dtype=torch.int32),
            torch.tensor(keep_threshold(0.6), dtype=torch.int32),
        )
        first, second = (torch.tensor(key, dtype=torch.int32) for key in mask_keys(0, expert, name, 0))
        return keep(index, first, second, threshold).reshape(like.shape)

    def formula(base: Tensor, one: Tensor, two: Tensor, name: str) -> Tensor:
        return base + sum(
            mask(expert, name, base) * (model - base) / 0.4 for expert, model in (("one", one), ("two", two))
        )

    equal(found, each(folder, formula))
    delta = found["model.embed_tokens.weight"] - tensors(folder / "base")["model.embed_tokens.weight"]
    # Both masks drop an entry with probability 0.36: 16,384 entries, five standard deviations.
    assert abs((delta == 0).double().mean().item() - 0.36) < 5 * (0.36 * 0.64 / 16_384) ** 0.5


def test_ties_trims_elects_and_averages(folder: Path, tmp_path: Path) -> None:
    found = merged("ties", folder, tmp_path / "out", "--set", "density=0.3", "--set", "scale=1.5")

    def trimmed(delta: Tensor) -> Tensor:
        smallest = delta.abs().flatten().sort(descending=True).values[max(1, round(0.3 * delta.numel())) - 1]
        return torch.where(delta.abs() >= smallest, delta, 0.0)

    def formula(base: Tensor, one: Tensor, two: Tensor, name: str) -> Tensor:
        deltas = torch.stack([trimmed(model.float() - base.float()) for model in (one, two)]).double()
        sign = torch.where(deltas.sum(0) >= 0, 1.0, -1.0)
        agrees = deltas * sign > 0
        return base + 1.5 * (deltas * agrees).sum(0) / agrees.sum(0).clamp(min=1)

    equal(found, each(folder, formula))


def test_a_merge_s_recipe_rebuilds_it_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    merged("dare", folder, tmp_path / "out")
    said = psomerge(
        "materialize", tmp_path / "out" / "recipe.json", "--out", tmp_path / "again", home=tmp_path / "home"
    )
    assert said.code == 0, said.err
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files
    assert "model.safetensors" in files


def test_the_result_loads_in_transformers(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged("linear", folder, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    prompt = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)("Hello", return_tensors="pt")[
        "input_ids"
    ]
    assert model.generate(prompt, max_new_tokens=3, do_sample=False, pad_token_id=0).shape[1] <= prompt.shape[1] + 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lineer"], "unknown method 'lineer'; did you mean linear?"),
        (["ties", "--set", "densty=0.5"], "ties has no parameter 'densty'; did you mean density?"),
        (["ties", "--set", "density=0"], "density must lie in (0, 1]"),
        (["dare", "--set", "drop_rate=1"], "drop_rate must lie in [0, 1)"),
        (["dare", "--set", "drop_rate=much"], "expected a number after '='"),
        (["linear", "--set", "scale=2"], "linear has no parameter 'scale'"),
        (["task_arithmetic", "--set", "scale=.nan"], "number"),
    ],
)
def test_a_method_or_parameter_that_cannot_be_is_refused(
    folder: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    models = [
        "--base",
        folder / "base",
        "--expert",
        folder / "one",
        "--expert",
        folder / "two",
        "--out",
        tmp_path / "out",
    ]
    said = psomerge("merge", *arguments, *models, home=tmp_path / "home")
    assert said.code == 2, said.err
    assert words in said.line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("weights", "words"),
    [(("one=x", "two"), "found 'x'"), (("one=1", "two=-1"), "sum to 0"), (("one=inf", "two"), "number")],
)
def test_weights_that_cannot_be_are_refused(folder: Path, tmp_path: Path, weights: tuple[str, str], words: str) -> None:
    experts = [word for weight in weights for word in ("--expert", folder / weight)]
    said = psomerge(
        "merge", "linear", "--base", folder / "base", *experts, "--out", tmp_path / "out", home=tmp_path / "home"
    )
    assert said.code == 2, said.err
    assert words in said.line
    assert list(tmp_path.iterdir()) == []


def test_a_merge_never_overwrites(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    said = psomerge(
        "merge", "linear", "--base", folder / "base", "--expert", folder / "one", "--out", out, home=tmp_path / "home"
    )
    assert said.code in (2, 3), said.err
    assert str(out) in said.line
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return small_run(tmp_path)


def recipe_in(small: Small) -> Path:
    arguments = [
        "--base",
        small.folder / "base",
        "--expert",
        small.folder / "expert1",
        "--expert",
        small.folder / "expert2",
        "--out",
        small.folder / "out",
    ]
    assert psomerge("merge", "linear", *arguments, home=small.home).code == 0
    return small.folder / "out" / "recipe.json"


def rebuilt(small: Small, recipe: Path) -> Said:
    said = psomerge("materialize", recipe, "--out", small.folder / "again", home=small.home)
    assert not (small.folder / "again").exists()
    return said


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps(json.loads(text) | {"format": 99}),
        lambda text: json.dumps(json.loads(text) | {"method": "magic"}),
        lambda text: json.dumps(json.loads(text) | {"more": 1}),
        lambda text: json.dumps(json.loads(text) | {"coefficients": [[1.0]]}),
        lambda text: json.dumps(json.loads(text) | {"coefficients": [[1.0, float("nan")]]}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "base"}),
        lambda text: json.dumps(json.loads(text) | {"tokenizer_from": "nobody"}),
        lambda text: json.dumps(json.loads(text) | {"grouping": "magic"}),
        lambda text: json.dumps(json.loads(text) | {"coefficients": [[1e300, 1e300]]}),
    ],
    ids=[
        "cut",
        "a list",
        "format",
        "method",
        "key",
        "too few numbers",
        "NaN",
        "no base",
        "tokenizer",
        "grouping",
        "overflow",
    ],
)
def test_a_damaged_recipe_is_refused(small: Small, damage: Callable[[str], str]) -> None:
    recipe = recipe_in(small)
    broken = small.folder / "broken.json"
    broken.write_text(damage(recipe.read_text()))
    said = rebuilt(small, broken)
    assert said.code == 3, said.err
    assert said.line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "unknown method 'magic'; expected one of coefficients, ties"),
        ({"method": ["ties"]}, "unknown method ['ties']; expected one of coefficients, ties"),
        ({"method": "ties"}, "ties: parameter 'density' is missing"),
        ({"method": "ties", "parameters": {"density": 0.5}}, "ties: parameter 'scale' is missing"),
        ({"method": "ties", "parameters": {"density": 0, "scale": 1}}, "ties: density must lie in (0, 1], found 0"),
        ({"method": "ties", "parameters": {"density": "0.5", "scale": 1}}, "density must lie in (0, 1], found '0.5'"),
        (
            {"method": "ties", "parameters": {"density": 1, "scale": 1, "densty": 1}},
            "ties: unknown parameter 'densty'; did you mean density?",
        ),
        (
            {"method": "ties", "parameters": {"density": 1, "scale": 1}, "coefficients": [[0.5, -0.5]]},
            "ties: weights must not be negative, found -0.5",
        ),
        (
            {"method": "ties", "parameters": {"density": 1, "scale": 1}, "coefficients": [[1, 1, 0, 0]]},
            "ties: 2 experts need as many weights, found 4",
        ),
        ({"parameters": {"density": 0.5}}, "coefficients: unknown parameter 'density'"),
        ({"parameters": 5}, "not a recipe"),
    ],
)
def test_a_recipe_whose_method_cannot_be_is_refused_before_its_sources_are_fetched(
    small: Small, change: dict[str, object], words: str
) -> None:
    recipe = recipe_in(small)
    broken = small.folder / "broken.json"
    broken.write_text(json.dumps(json.loads(recipe.read_text()) | change))
    (small.folder / "expert2").rename(small.folder / "elsewhere")
    said = rebuilt(small, broken)
    assert said.code == 3, said.err
    assert said.line.startswith(f"{broken}: ")
    assert words in said.line


def test_a_recipe_that_is_not_there_is_refused(small: Small) -> None:
    assert rebuilt(small, small.folder / "nothing.json").code == 3


def test_a_pinned_file_that_changed_is_refused(small: Small) -> None:
    recipe = recipe_in(small)
    weights = small.folder / "expert2" / "model.safetensors"
    content = load_file(weights)
    content["model.norm.weight"] = content["model.norm.weight"] + 1
    save_file(content, str(weights), metadata={"format": "pt"})
    said = rebuilt(small, recipe)
    assert said.code == 3
    assert f"{weights}: expected SHA-256" in said.line


def test_a_source_that_moved_away_is_refused(small: Small) -> None:
    recipe = recipe_in(small)
    (small.folder / "expert2").rename(small.folder / "elsewhere")
    said = rebuilt(small, recipe)
    assert said.code == 3
    assert str(small.folder / "expert2") in said.line


IMPORTED = """
import json, sys
from psomerge.flows.cli import main
sys.argv = ["psomerge", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({"prefect", "mlflow", "vllm"} & set(sys.modules))))
"""


def test_the_static_commands_import_neither_prefect_nor_mlflow(folder: Path, tmp_path: Path) -> None:
    small = small_run(tmp_path)
    out = tmp_path / "out"
    commands = [
        ["merge", "linear", "--base", folder / "base", "--expert", folder / "one", "--out", out],
        ["check", folder / "one", "--base", folder / "base"],
        ["plan", small.config],
        ["materialize", out / "recipe.json", "--out", tmp_path / "again"],
    ]
    for words in commands:
        command = [sys.executable, "-c", IMPORTED, *map(str, words)]
        done = subprocess.run(command, env=small.environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == [], words[0]
