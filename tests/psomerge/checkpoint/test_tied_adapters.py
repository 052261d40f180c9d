"""Adapters of a base whose head is its embedding: what changes both alike is taken, what sets them apart is refused
with the command that makes a base where it is clear."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.adapters import lora, merged_by_peft
from made.models import tiny_llama
from psomerge.checkpoint.adapter import open_adapter
from psomerge.checkpoint.reader import open_checkpoint
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
