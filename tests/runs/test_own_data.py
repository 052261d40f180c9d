"""docs/own-data.md, run as it stands there, by a reader who has a base and two experts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from made.models import tiny_llama
from pages import blocks
from places import ROOT
from runs.small_run import Small, perturbed

pytestmark = pytest.mark.heavy


def test_the_page_runs_from_its_data_to_a_registered_model(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "models" / "base", 0)
    for number, name in enumerate(("math", "law"), 1):
        perturbed(base, tmp_path / "models" / name, number)
    small = Small(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said: list[str] = []
    for block in blocks(ROOT / "docs" / "own-data.md"):
        if block.language == "sh":
            done = subprocess.run(
                ["bash", "-euc", block.text],
                cwd=tmp_path,
                env=small.environment | {"PATH": path},
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            said.append(done.stdout)
        else:
            assert block.name, block.text
            (tmp_path / block.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.name).write_text(block.text, encoding="utf-8")
    _, ran = said
    assert "items: " in ran
    assert "registers models:/numbers" in ran
    (summary,) = (tmp_path / "home" / "runs").glob("*/report/summary.json")
    content = json.loads(summary.read_text())
    assert set(content["rows"][0]["benchmarks"]) == {"larger-en", "larger-es", "count", "next"}
