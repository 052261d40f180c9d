"""Well-known families as two versions of transformers save them, and as PEFT saves an adapter of them: no false alarm.

`made/older.json` has what transformers 4.57.1 wrote for a tiny random model of each family: its config.json and
generation_config.json, and dtype and shape of each tensor. The installed version opens that and saves it again in its
own way.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.models import byte_tokenizer
from runs.command_line import psomerge
from runs.small_run import perturbed

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")]
OLDER: dict[str, Any] = json.loads((Path(__file__).parents[1] / "made" / "older.json").read_text())
PACKED = ("mixtral", "qwen3_moe", "deepseek_v3")
"""Their experts are no linear modules any more: PEFT adapts them as parameters, which is refused by name."""


def older(folder: Path, family: str) -> Path:
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=draw).to(torch.bfloat16) / 8
        for name, (_, *shape) in OLDER[family]["tensors"].items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(OLDER[family]["config"]))
    (folder / "generation_config.json").write_text(json.dumps(OLDER[family]["generation"]))
    byte_tokenizer(300).save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(content | {"post_processor": None}))  # as that version left it
    return folder


def newer(folder: Path, saved: Path) -> Path:
    library_model(saved).save_pretrained(folder)
    byte_tokenizer(300).save_pretrained(folder)
    return folder


def library_model(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    paired = AutoConfig.from_pretrained(folder).is_encoder_decoder
    return (AutoModelForSeq2SeqLM if paired else AutoModelForCausalLM).from_pretrained(folder, dtype="auto")


def adapter(folder: Path, base: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(library_model(base), LoraConfig(r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.01)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", OLDER)
def test_a_family_in_two_versions_raises_no_alarm(tmp_path: Path, family: str) -> None:
    bases = {"old": older(tmp_path / "old", family)}
    bases["new"] = newer(tmp_path / "new", bases["old"])
    experts = [perturbed(base, tmp_path / f"{name}-expert", 1, size=0.002) for name, base in bases.items()]
    if family not in PACKED:
        experts.append(adapter(tmp_path / "adapter", bases["old"]))
    for name, base in bases.items():
        said = psomerge("check", *experts, "--base", base, home=tmp_path / "home")
        assert said.code == 0, said.err
        assert said.out.count("fits the base") == len(experts)
        warned = [line for line in (said.out + said.err).splitlines() if "warning" in line]
        # That an adapter names the other folder as its base is true.
        assert all(name == "new" and "adapter_config.json" in line for line in warned), warned


def test_older_files_differ_from_newer_ones_at_all(tmp_path: Path) -> None:
    old = older(tmp_path / "old", "mixtral")
    new = newer(tmp_path / "new", old)
    assert load_file(old / "model.safetensors").keys() == OLDER["mixtral"]["tensors"].keys()
    assert json.loads((old / "config.json").read_text()) != json.loads((new / "config.json").read_text())
    shutil.rmtree(new)
