"""Models that read pictures or sounds beside text: merged whole, judged on text, usable by a consumer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.multimodal import KINDS, multimodal
from psomerge.checkpoint.pins import pin
from psomerge.errors import ConfigError
from psomerge.evals.engines.engine import Batch, Loglikelihood
from psomerge.evals.engines.transformers_engine import TransformersEngine
from psomerge.recipe import Recipe
from runs.command_line import psomerge
from runs.engine_cases import SETTINGS

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

WEIGHTS = "model.safetensors"
OF_TEXT = ("language_model", "lm_head", "model.layers", "model.embed_tokens", "model.norm")
"""In the names of the tensors that read and write text."""


def tuned(base: Path, folder: Path) -> None:
    """A copy whose text part was trained; what sees or hears was left alone, as fine-tuning mostly does."""
    shutil.copytree(base, folder)
    draw = torch.Generator().manual_seed(1)
    tensors = load_file(base / WEIGHTS)
    for name, tensor in tensors.items():
        if of_text(name):
            tensors[name] = (tensor.float() + 0.05 * torch.randn(tensor.shape, generator=draw)).to(tensor.dtype)
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})


def of_text(name: str) -> bool:
    return any(part in name for part in OF_TEXT)


def plain(folder: Path) -> Any:
    """The model as a consumer opens it: by the class that its config names."""
    import transformers

    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    model, told = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_reads_more_than_text_is_merged_whole_and_judged_on_text(kind: str, tmp_path: Path) -> None:
    base = multimodal(tmp_path / "base", kind)
    tuned(base, tmp_path / "one")
    said = psomerge(
        *("merge", "task_arithmetic", "--base", base, "--expert", tmp_path / "one", "--set", "scale=0.5"),
        *("--out", tmp_path / "out"),
        home=tmp_path / "home",
    )
    assert said.code == 0, said.err
    before, merged = (load_file(folder / WEIGHTS) for folder in (base, tmp_path / "out"))
    assert before.keys() == merged.keys()
    changed = {name for name in before if not torch.equal(before[name], merged[name])}
    assert changed == {name for name in before if of_text(name)}
    with torch.no_grad():
        logits = plain(tmp_path / "out")(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits.float().log_softmax(-1)
    engine = TransformersEngine({"base": tmp_path / "out"}, replace(SETTINGS, tokenizer_from="base", dtype="float32"))
    engine.load(Recipe(base=pin(tmp_path / "out", "base", "out"), experts=()))
    (found,) = engine.answer(Batch((Loglikelihood((5, 6, 7, 8), (9, 10)),))).loglikelihood
    assert found.logprob == pytest.approx((logits[0, 3, 9] + logits[0, 4, 10]).item(), abs=1e-4)


def test_the_processor_of_a_merged_model_that_sees_opens_in_plain_transformers(tmp_path: Path) -> None:
    import numpy as np
    from transformers import AutoProcessor

    base = multimodal(tmp_path / "base", "llava")
    tuned(base, tmp_path / "one")
    (tmp_path / "one" / "preprocessor_config.json").unlink()  # a trainer saved the text part's files alone
    (tmp_path / "one" / "processor_config.json").unlink()
    said = psomerge(
        *("merge", "linear", "--base", base, "--expert", tmp_path / "one", "--tokenizer-from", tmp_path / "one"),
        *("--out", tmp_path / "out"),
        home=tmp_path / "home",
    )
    assert said.code == 0, said.err
    asked = {"text": "<eos>a", "images": np.zeros((28, 28, 3), dtype="uint8"), "return_tensors": "np"}
    ours, theirs = (AutoProcessor.from_pretrained(folder) for folder in (tmp_path / "out", base))
    assert ours.chat_template == theirs.chat_template == "{{ messages }} with pictures"
    assert (ours(**asked)["pixel_values"] == theirs(**asked)["pixel_values"]).all()


def test_a_model_that_sees_what_follows_is_refused_when_the_engine_starts(tmp_path: Path) -> None:
    base = multimodal(tmp_path / "base", "paligemma")
    with pytest.raises(ConfigError, match=r"does not judge text alone .*both sides.*psomerge merge"):
        TransformersEngine({"base": base}, replace(SETTINGS, tokenizer_from="base", dtype="float32"))
