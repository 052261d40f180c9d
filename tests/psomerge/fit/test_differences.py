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
