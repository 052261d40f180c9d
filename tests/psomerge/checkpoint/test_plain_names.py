"""A tensor is found by what other layouts call it, and PEFT's adapters name tensors as the model's class does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from made.layouts import in_two_layouts
from made.multimodal import multimodal
from psomerge.checkpoint.adapter import Adapter, open_adapter
from psomerge.checkpoint.plain_names import Names, plain_name
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.files.names import ADAPTER_WEIGHTS

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")]


def test_plain_names_leave_apart_what_is_apart() -> None:
    names = ("model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight", "model.layers.0.mlp.w1.weight")
    assert len({plain_name(name) for name in names}) == 3
    assert (
        plain_name("model.language_model.layers.0.a") == plain_name("language_model.model.layers.0.a") == "layers.0.a"
    )


def test_a_name_that_several_tensors_have_elsewhere_finds_none() -> None:
    names = Names(["model.w", "transformer.w", "language_model.model.v"])
    assert names.alike("language_model.w") is None
    assert names.alike("model.language_model.v") == "language_model.model.v"
    assert "model.language_model.v" not in names


def opened(folder: Path) -> Any:
    """The model as its config's class has it."""
    import transformers

    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, name).from_pretrained(folder, dtype=torch.float32)


def adapted(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter that PEFT writes, every number of it drawn."""
    get_peft_model(opened(base), LoraConfig(**{"r": 2, "lora_alpha": 3} | settings)).save_pretrained(folder)
    draw = torch.Generator().manual_seed(1)
    stored = load_file(folder / ADAPTER_WEIGHTS)
    save_file(
        {name: torch.randn(one.shape, generator=draw) / 10 for name, one in stored.items()}, folder / ADAPTER_WEIGHTS
    )
    return folder


LINEAR = {
    "target_modules": ["q_proj", "v_proj", "down_proj"],
    "rank_pattern": {"language_model.layers.0.self_attn.q_proj": 1},
}
KINDS = {
    "llava": LINEAR | {"modules_to_save": ["multi_modal_projector"]},
    "qwen2_vl": LINEAR,
    "gemma3": LINEAR,
    "qwen2_audio": {"target_modules": ["q_proj", "v_proj"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_of_a_model_whose_files_have_other_names_than_its_class_is_the_sum_that_peft_makes(
    kind: str, tmp_path: Path
) -> None:
    base = multimodal(tmp_path / "base", kind)
    check(base, adapted(base, tmp_path / "one", **KINDS[kind]), tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "bloom", "opt"])
def test_an_adapter_of_a_model_that_is_published_without_its_prefix_is_the_sum_that_peft_makes(
    kind: str, tmp_path: Path
) -> None:
    import transformers

    sizes = {"vocab_size": 64, "n_layer": 1, "n_head": 2, "n_embd": 16, "hidden_size": 16, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 16, "n_positions": 32}
    config = transformers.AutoConfig.for_model(kind, **sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "with")
    whole = load_file(tmp_path / "with" / "model.safetensors")
    prefix = {"opt": "model."}.get(kind, "transformer.")
    assert all(name.startswith(prefix) for name in whole if name != "lm_head.weight")
    short = {name.removeprefix(prefix): one for name, one in whole.items()}
    save_file(short, tmp_path / "with" / "model.safetensors", metadata={"format": "pt"})
    targets = {"gpt2": ["c_attn", "c_proj"], "bloom": ["query_key_value", "dense"], "opt": ["q_proj", "fc1"]}[kind]
    turned = {"fan_in_fan_out": True} if kind == "gpt2" else {}
    check(tmp_path / "with", adapted(tmp_path / "with", tmp_path / "one", target_modules=targets, **turned), tmp_path)


def test_an_adapter_fits_its_base_in_either_layout(tmp_path: Path) -> None:
    published, inside = in_two_layouts(tmp_path, "qwen2_vl")
    one = adapted(published, tmp_path / "one", target_modules=["q_proj"])
    here, there = (open_adapter(one, open_checkpoint(folder), "one") for folder in (published, inside))
    pairs = {plain_name(name): name for name in there.low_rank}
    assert here.low_rank.keys().isdisjoint(there.low_rank)
    assert {plain_name(name) for name in here.low_rank} == pairs.keys()
    for name in here.low_rank:
        assert torch.equal(here.tensor(name), there.tensor(pairs[plain_name(name)]))


def check(base: Path, folder: Path, place: Path) -> None:
    found = open_adapter(folder, open_checkpoint(base), "one")
    assert isinstance(found, Adapter)
    PeftModel.from_pretrained(opened(base), str(folder)).merge_and_unload().save_pretrained(place / "merged")
    expected = load_file(place / "merged" / "model.safetensors")
    names = {plain_name(name): name for name in expected}
    assert len(names) == len(expected)
    changed = 0
    for name in found.tensors:
        one, other = found.tensor(name).float(), expected[names[plain_name(name)]]
        torch.testing.assert_close(one, other, rtol=2e-6, atol=2e-6)
        changed += not torch.equal(one, found.base.tensor(name).float())
    assert changed >= 2
