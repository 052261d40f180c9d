"""What an expert was used to and the merged model does not get."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from made.models import toy_checkpoint
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.fit.differences import differences


def opened(folder: Path, name: str, generation: dict[str, Any] | None) -> Checkpoint:
    toy_checkpoint(folder, {"model.norm.weight": torch.zeros(4)})
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return open_checkpoint(folder, name)


@pytest.mark.parametrize(
    ("base", "expert", "told"),
    [
        (None, {"do_sample": False}, []),  # as psomerge publishes
        ({}, {"do_sample": False}, []),
        ({"do_sample": True}, {}, []),  # unsaid
        ({}, {"do_sample": True}, [("do_sample none", "do_sample True")]),
        ({"do_sample": True}, {"do_sample": False}, [("do_sample True", "do_sample False")]),
        ({}, {"temperature": 0.6}, [("temperature none", "temperature 0.6")]),
    ],
)
def test_generation_settings_that_differ_are_told(
    tmp_path: Path, base: dict[str, Any] | None, expert: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    one, other = opened(tmp_path / "base", "base", base), opened(tmp_path / "expert", "one", expert)
    found = [warning for warning in differences(one, other, one) if warning.what == "generation config"]
    assert [(warning.expected, warning.found) for warning in found] == told


def test_settings_that_nobody_knows_are_told_with_both_values(tmp_path: Path) -> None:
    """A class of the future: whether `gate_temperature` changes what is computed is not known here."""
    tensors = {"model.norm.weight": torch.zeros(4)}
    one, other = (
        open_checkpoint(toy_checkpoint(tmp_path / name, tensors, {"gate_temperature": value, "use_cache": value > 1}))
        for name, value in (("base", 1.0), ("expert", 2.0))
    )
    (warning,) = differences(one, other, one)
    assert (warning.what, warning.expected, warning.found) == (
        "settings in config.json",
        "gate_temperature 1.0",
        "gate_temperature 2.0",
    )
    assert "the merged model has the base's" in warning.advice


def test_of_many_settings_that_nobody_knows_the_first_are_told(tmp_path: Path) -> None:
    tensors = {"model.norm.weight": torch.zeros(4)}
    one, other = (
        open_checkpoint(toy_checkpoint(tmp_path / str(value), tensors, {f"gate_{n}": value for n in range(6)}))
        for value in (1, 2)
    )
    (warning,) = differences(one, other, one)
    assert warning.expected == "gate_0 1, gate_1 1, gate_2 1, gate_3 1, ..."
