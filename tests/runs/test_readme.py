"""The README's blocks, from its own text: what can be run without a hub is run."""

from pathlib import Path

import pytest
import yaml

from made.adapters import lora
from made.models import tiny_llama
from pages import Block, blocks
from places import ROOT
from runs.command_line import psomerge
from runs.small_run import perturbed

pytestmark = pytest.mark.heavy
README = ROOT / "README.md"


def block(part: str) -> Block:
    (found,) = [one for one in blocks(README) if part in one.text]
    return found


def test_its_config_and_its_suite_are_planned_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_llama(tmp_path / "models" / "base", 0)
    perturbed(base, tmp_path / "models" / "math", 1)
    lora(base, tmp_path / "models" / "law-lora", 2, r=4, target_modules=["q_proj"])
    for one in (block("experts: {"), block("benchmarks:")):
        path = tmp_path / one.name
        path.parent.mkdir(exist_ok=True)
        path.write_text(one.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (line,) = [line for line in block("psomerge plan").text.splitlines() if "plan" in line]
    said = psomerge(*line.split()[1:], home=tmp_path / "home")
    assert said.code == 0, said.err
    assert "items: known once the data sets are fetched" in said.out
    assert "nothing to fetch: base and experts are here" in said.out


def test_every_shipped_suite_that_it_names_exists() -> None:
    rows = [line.split("|")[1].strip(" `") for line in README.read_text().splitlines() if line.startswith("| `")]
    shipped = {path.stem for path in (ROOT / "configs" / "suites").glob("*.yaml")}
    named = {"understanding", "reasoning", "translation", "bayling2", "low-resource"}
    assert named <= set(rows)
    assert named <= shipped


def test_its_yaml_blocks_are_read_as_yaml() -> None:
    for one in blocks(README):
        if one.language == "yaml":
            assert isinstance(yaml.safe_load(one.text), dict)
