"""Adapters of a base whose head is its embedding: what changes both alike is taken, what sets them apart is refused
with the command that makes a base where it is clear."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from made.adapters import lora, merged_by_peft
from made.architectures import tiny_t5
from made.models import tiny_llama
from made.multimodal import multimodal
from psomerge.checkpoint.adapter import open_adapter
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.checkpoint.tied_adapters import untied
from psomerge.errors import ArtefactError
from psomerge.files.names import ADAPTER_WEIGHTS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("place") / "tiny", dtype=torch.float32, layers=1)


def alike(folder: Path) -> None:
    """What training keeps alike where PEFT ties an adapter: the head's factors are the embedding's turned over."""
    found = load_file(folder / ADAPTER_WEIGHTS)
    for side, other in ("AB", "BA"):
        if (name := f"{PREFIX}{EMBEDDING}.lora_embedding_{other}") in found:
            found[f"{PREFIX}{HEAD}.lora_{side}.weight"] = found[name].t().contiguous()
    if (name := f"{PREFIX}{HEAD}.weight") in found and (whole := f"{PREFIX}{EMBEDDING}.weight") in found:
        found[name] = found[whole].clone()
    save_file(found, folder / ADAPTER_WEIGHTS)


CLEAR = {
    "a product of the embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "tied products, by the embedding": {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    "tied products, by the head": {"target_modules": ["lm_head", "q_proj"], "ensure_weight_tying": True},
    "tied products, by both": {"target_modules": ["lm_head", "embed_tokens"], "ensure_weight_tying": True},
    "saved whole, tied": {
        "target_modules": ["q_proj"],
        "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "saved whole, both alike": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("kind", CLEAR)
def test_what_changes_head_and_embedding_alike_is_taken(tmp_path: Path, base: Path, kind: str) -> None:
    folder = lora(base, tmp_path / "one", **CLEAR[kind])
    if kind != "a product of the embedding":
        alike(folder)
    opened = open_adapter(folder, open_checkpoint(base), "one")
    assert f"{HEAD}.weight" not in opened.tensors
    said = [note.found for note in opened.notes]
    assert said == ([f"{PREFIX}{EMBEDDING}.lora_embedding_A"] if kind == "a product of the embedding" else [])
    found, origin = opened.tensor(f"{EMBEDDING}.weight"), opened.base.tensor(f"{EMBEDDING}.weight")
    stored = load_file(folder / ADAPTER_WEIGHTS)
    if (whole := f"{PREFIX}{EMBEDDING}.weight") in stored:
        assert torch.equal(found, stored[whole])
    else:  # by hand: B A over the rank, turned over, times alpha / rank
        a, b = (stored[f"{PREFIX}{EMBEDDING}.lora_embedding_{side}"] for side in "AB")
        torch.testing.assert_close(found, origin + (8 / 4) * (b @ a).t(), rtol=2e-6, atol=2e-6)
    if kind in ("a product of the embedding", "saved whole, tied", "saved whole, both alike"):
        peft = merged_by_peft(base, folder)
        for name in (EMBEDDING, HEAD):
            torch.testing.assert_close(found, peft[f"{name}.weight"], rtol=2e-6, atol=2e-6)


APART = {
    "a product of the head": {"target_modules": ["lm_head", "q_proj"]},
    "products of both, each its own": {"target_modules": ["lm_head", "embed_tokens"]},
    "the head saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "the embedding saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "both saved whole, each its own": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("kind", APART)
def test_what_sets_them_apart_is_refused_with_the_command_that_unties_the_base(
    tmp_path: Path, base: Path, kind: str
) -> None:
    folder = lora(base, tmp_path / "one", **APART[kind])
    with pytest.raises(
        ArtefactError, match="in this base they are one tensor; give a base with a head of its"
    ) as caught:
        open_adapter(folder, open_checkpoint(base), "one")
    assert "\n" not in str(caught.value)
    assert "give the base that it was trained on" not in str(caught.value)


@pytest.mark.heavy
def test_on_the_base_that_the_command_makes_it_is_the_sum_that_peft_makes(tmp_path: Path, base: Path) -> None:
    folder = lora(base, tmp_path / "one", **APART["the embedding saved whole"])
    with pytest.raises(ArtefactError) as caught:
        open_adapter(folder, open_checkpoint(base), "one")
    command = re.search(r"made with: (python -c .*)$", str(caught.value))
    assert command
    shell = command[1].replace("python", sys.executable, 1)
    subprocess.run(shell, shell=True, cwd=tmp_path, check=True, capture_output=True)
    for kind in APART:
        one = folder if kind == "the embedding saved whole" else lora(base, tmp_path / kind, **APART[kind])
        opened = open_adapter(one, open_checkpoint(tmp_path / "UNTIED"), "one")
        peft = merged_by_peft(tmp_path / "UNTIED", one)
        for name in opened.tensors:
            torch.testing.assert_close(opened.tensor(name).float(), peft[name], rtol=2e-6, atol=2e-6)


def base_of(folder: Path, kind: str) -> Path:
    return {
        "t5": lambda: tiny_t5(folder, tied=True, dtype=torch.float32),
        "gemma3": lambda: multimodal(folder, "gemma3"),
        "llama": lambda: tiny_llama(folder, dtype=torch.float32, layers=1),
    }[kind]()


def opened(folder: Path) -> Any:
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)


def answer(folder: Path) -> torch.Tensor:
    model = opened(folder)
    ids = {"input_ids": torch.tensor([[5, 6, 7]])}
    return model(**ids, **({"decoder_input_ids": ids["input_ids"]} if model.config.is_encoder_decoder else {})).logits


def run(command: str, folder: Path) -> None:
    shell = command.replace("python", sys.executable, 1)
    done = subprocess.run(shell, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["t5", "gemma3", "llama"])
def test_the_commands_that_are_told_make_what_they_say_of_every_kind_of_model(tmp_path: Path, kind: str) -> None:
    base = base_of(tmp_path / "it's 🦙", kind)
    run(untied(open_checkpoint(base)).partition("made with: ")[2], tmp_path)
    assert torch.equal(answer(tmp_path / "UNTIED"), answer(base))
    assert not open_checkpoint(tmp_path / "UNTIED").tied
    assert (tmp_path / "UNTIED" / "tokenizer.json").exists() == (base / "tokenizer.json").exists()
    targets = {"t5": ["q", "v"]}.get(kind, ["q_proj", "v_proj"])
    task = {"t5": "SEQ_2_SEQ_LM", "llama": "CAUSAL_LM"}.get(kind)
    model = get_peft_model(opened(base), LoraConfig(r=2, target_modules=targets, task_type=task, use_dora=True))
    model.save_pretrained(tmp_path / "it's one")
    with pytest.raises(ArtefactError, match="use_dora") as caught:
        open_adapter(tmp_path / "it's one", open_checkpoint(base), "one")
    run(str(caught.value).partition("into a checkpoint: ")[2], tmp_path)
    torch.testing.assert_close(answer(tmp_path / "MERGED"), answer(base), atol=1e-4, rtol=0)  # B is zero at first
