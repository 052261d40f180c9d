"""How far experts lie from their base, and whom that gives away: fine-tunes raise no alarm, another seed and a copy of
the base do."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.adapters import lora, merged_by_peft
from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.fit.distance import distance_warnings, measure
from psomerge.tasks.experts.check import check


def models(folder: Path, *others: tuple[str, float, int]) -> list[Checkpoint]:
    """A base of four matrices and a norm, and experts (name, relative noise, seed): noise `inf` is another base
    altogether."""

    def draw(seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {f"model.layers.{i}.w": torch.randn(40, 30, generator=generator) for i in range(4)} | {
            "model.norm.weight": torch.ones(30)
        }

    base = draw(0)
    found = [
        open_checkpoint(
            toy_checkpoint(folder / "base", {name: tensor.bfloat16() for name, tensor in base.items()}), "base"
        )
    ]
    for name, noise, seed in others:
        other = draw(seed)
        tensors = other if noise == float("inf") else {key: base[key] + noise * other[key] for key in base}
        found.append(
            open_checkpoint(
                toy_checkpoint(folder / name, {key: tensor.bfloat16() for key, tensor in tensors.items()}), name
            )
        )
    return found


def alarms(folder: Path, *others: tuple[str, float, int]) -> list[tuple[str, str]]:
    base, *experts = models(folder, *others)
    distances, faults = measure(base, experts)
    assert faults == []
    return [(warning.expert, warning.what) for warning in distance_warnings(distances)]


def test_distances_are_relative_norms_of_task_vectors(tmp_path: Path) -> None:
    base, expert = models(tmp_path, ("one", 0.05, 1))
    found = measure(base, [expert])[0]["one"]
    for name in ("model.layers.0.w", "model.layers.3.w"):
        ours, theirs = base.tensor(name).double(), expert.tensor(name).double()
        assert found.matrices[name] == pytest.approx(
            ((theirs - ours).square().sum() / ours.square().sum()).sqrt().item(), rel=1e-5
        )
    assert "model.norm.weight" not in found.matrices
    assert found.level() == pytest.approx(0.05, rel=0.1)


def test_values_whose_squares_overflow_are_measured_all_the_same(tmp_path: Path) -> None:
    base = open_checkpoint(toy_checkpoint(tmp_path / "base", {"w": torch.full((2, 2), 1e30)}), "base")
    expert = open_checkpoint(toy_checkpoint(tmp_path / "one", {"w": torch.full((2, 2), 1.5e30)}), "one")
    distances, faults = measure(base, [expert])
    assert faults == []
    assert distances["one"].matrices["w"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "noises",
    [
        (0.001,),
        (0.1,),
        (0.001, 0.1),
        (0.001, 0.01, 0.1),
        (0.002, 0.002, 0.002, 0.1),
        (0.14, 0.14, 0.15, 0.15),
        (0.25, 0.01, 0.01),
    ],
)
def test_fine_tunes_raise_no_alarm(tmp_path: Path, noises: tuple[float, ...]) -> None:
    assert alarms(tmp_path, *((f"e{seed}", noise, seed) for seed, noise in enumerate(noises, 1))) == []


@pytest.mark.parametrize("peers", [0, 1, 3])
def test_an_expert_from_another_seed_raises_one(tmp_path: Path, peers: int) -> None:
    found = alarms(tmp_path, ("foreign", float("inf"), 9), *((f"e{seed}", 0.05, seed) for seed in range(1, peers + 1)))
    assert found == [("foreign", "perhaps not made from this base")]


def test_an_expert_of_a_related_base_stands_out_among_its_peers(tmp_path: Path) -> None:
    peers = [(f"e{seed}", noise, seed) for seed, noise in enumerate((0.02, 0.03, 0.04), 1)]
    assert alarms(tmp_path, ("related", 0.5, 9), *peers) == [("related", "perhaps not made from this base")]
    assert alarms(tmp_path / "alone", ("related", 0.5, 9)) == []  # nothing to hold it against


def test_an_expert_that_is_the_base_raises_an_alarm(tmp_path: Path) -> None:
    assert alarms(tmp_path, ("copy", 0.0, 1), ("one", 0.01, 2)) == [("copy", "equal to the base")]


def test_one_matrix_made_anew_is_named(tmp_path: Path) -> None:
    base, expert = models(tmp_path, ("one", 0.01, 1))
    values = load_file(expert.folder / "model.safetensors")
    values["model.layers.2.w"] = torch.randn(40, 30, generator=torch.Generator().manual_seed(7)).bfloat16()
    save_file(values, str(expert.folder / "model.safetensors"), metadata={"format": "pt"})
    (warning,) = distance_warnings(measure(base, [open_checkpoint(expert.folder, "one")])[0])
    assert warning.what == "1 of 4 matrices seem made anew"
    assert warning.found.startswith("'model.layers.2.w' 1.4")


def test_an_adapter_is_measured_as_what_it_makes_of_the_base(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    lora(base, tmp_path / "tam")
    checked = check({"base": base, "tam": tmp_path / "tam"}, None)
    opened = checked.basis
    assert (checked.tokenizer_from, checked.warnings) == ("base", ())
    found = measure(opened.base, opened.experts)[0]["tam"].matrices
    merged, stored = merged_by_peft(base, tmp_path / "tam"), load_file(base / "model.safetensors")
    distances = {
        name: ((merged[name].double() - one.double()).norm() / one.double().norm()).item()
        for name, one in stored.items()
        if one.ndim > 1
    }
    assert found == pytest.approx(distances, rel=1e-4, abs=1e-6)
    assert max(found.values()) > 0.001
    assert min(found.values()) == 0  # what the adapter leaves alone
