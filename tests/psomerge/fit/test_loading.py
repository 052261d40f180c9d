"""Tensors that no loader needs, or that one side lacks by custom, keep no expert from being merged; they are left
out, or the base's, and said."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.architectures import SIZES
from made.layouts import LATENT, random_model
from made.models import byte_tokenizer, tiny_llama
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.evals.engines.engine import EngineSettings, Loglikelihood
from psomerge.evals.engines.transformers_engine import TransformersEngine
from psomerge.fit.loading import Loading
from psomerge.merge.basis import open_basis
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source
from psomerge.tasks.experts.check import check
from psomerge.tasks.experts.class_defaults import loading

pytestmark = pytest.mark.heavy

SAFE = "model.safetensors"
Tensors = dict[str, torch.Tensor]
MASK = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
ENDS = {"vocab_size": 256, "bos_token_id": 0, "eos_token_id": 0}
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 8} | ENDS
NEO = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
BART = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
NEXT = SIZES | {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "head_dim": 32}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", SIZES),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", SIZES),
    "gpt_neo": ("GPTNeoForCausalLM", NEO | ENDS),
    "gptj": ("GPTJForCausalLM", GPT2 | {"rotary_dim": 16}),
    "bart": ("BartForConditionalGeneration", BART | {"vocab_size": 256}),
    "qwen3_next": ("Qwen3NextForCausalLM", NEXT),
    "deepseek_v3": ("DeepseekV3ForCausalLM", LATENT | {"num_nextn_predict_layers": 1}),
}
SPARE: dict[str, tuple[str, Tensors]] = {
    "rotary tables": ("llama", {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.rand(16) for i in (0, 1)}),
    "rotary table of the model": ("llama", {"model.rotary_emb.inv_freq": torch.rand(16)}),
    "masks": ("gpt2", {"transformer.h.0.attn.bias": MASK, "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}),
    "masks as numbers": ("gpt2", {"transformer.h.1.attn.bias": MASK.float()}),
    "masks and tables": (
        "gpt_neox",
        {
            "gpt_neox.layers.0.attention.bias": MASK,
            "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
            "gpt_neox.layers.1.attention.rotary_emb.inv_freq": torch.rand(4),
        },
    ),
    "buffers that the class makes": ("gpt_neo", {"transformer.h.0.attn.attention.bias": MASK}),
    "masks of old": ("gptj", {"transformer.h.0.attn.bias": MASK.to(torch.uint8)}),
    "a head for rewards": ("llama", {"v_head.summary.weight": torch.rand(1, 64), "v_head.summary.bias": torch.rand(1)}),
    "heads for several tokens": (
        "qwen3_next",
        {"mtp.fc.weight": torch.rand(64, 128).bfloat16(), "mtp.layers.0.input_layernorm.weight": torch.rand(64)},
    ),
    "a layer behind the last": (
        "deepseek_v3",
        {"model.layers.2.eh_proj.weight": torch.rand(64, 128), "model.layers.2.mlp.gate.weight": torch.rand(4, 64)},
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Gives base and expert of a class, as transformers writes them."""
    made: dict[str, tuple[Path, Path]] = {}

    def give(kind: str) -> tuple[Path, Path]:
        if kind not in made:
            place = tmp_path_factory.mktemp(kind)
            for seed, name in enumerate(("base", "tam")):
                random_model(*CLASSES[kind], kind=kind, seed=seed).save_pretrained(place / name)
            made[kind] = place / "base", place / "tam"
        return made[kind]

    return give


def changed(model: Path, folder: Path, more: Tensors, without: str = " ") -> Path:
    """A copy of a model with more tensors, and without those that hold some words in their names."""
    folder.mkdir()
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    content = {name: tensor for name, tensor in load_file(model / SAFE).items() if without not in name}
    save_file(content | more, folder / SAFE, metadata={"format": "pt"})
    return folder


def merged(base: Path, tam: Path) -> Tensors:
    recipe = METHODS["task_arithmetic"].recipe(Recipe(Source("base", "", ""), (Source("tam", "", ""),)), [0.5])
    return dict(open_basis({"base": base, "tam": tam}).merged_tensors(recipe))


def told(base: Path, tam: Path) -> dict[str, str]:
    return {one.what: str(one) for one in check({"base": base, "tam": tam}, None).warnings}


@pytest.mark.parametrize("kind", SPARE)
def test_what_only_an_expert_has_and_its_class_ignores_is_left_out_and_said(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]], kind: str
) -> None:
    name, more = SPARE[kind]
    base, tam = models(name)
    expert = changed(tam, tmp_path / "tam", more)
    said = told(base, expert)["tensors that the base has not"]
    assert said.endswith("; its class loads without them: they are left out")
    assert repr(min(more)) in said
    expected, found = merged(base, tam), merged(base, expert)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", SPARE)
def test_what_only_the_base_has_and_its_class_ignores_is_the_base_s_and_said(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]], kind: str
) -> None:
    name, more = SPARE[kind]
    base, tam = models(name)
    richer = changed(base, tmp_path / "base", more)
    said = told(richer, tam)["tensors that the base has"]
    assert said.endswith("; its class loads without them: they are the base's")
    expected, found = merged(base, tam) | more, merged(richer, tam)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["masks", "buffers that the class makes", "a layer behind the last"])
def test_a_base_with_what_its_class_ignores_is_judged_as_without(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]], kind: str
) -> None:
    name, more = SPARE[kind]
    base, tam = models(name)
    recipe = METHODS["task_arithmetic"].recipe(Recipe(Source("base", "", ""), (Source("tam", "", ""),)), [0.5])
    answers = []
    for one in (base, changed(base, tmp_path / "base", more)):
        byte_tokenizer().save_pretrained(one)
        engine = TransformersEngine({"base": one, "tam": tam}, EngineSettings())
        engine.load(recipe)
        answers.append(engine.loglikelihood([Loglikelihood((1, 2, 3), (4,))]))
    assert answers[0] == answers[1]


def test_a_mask_of_another_size_or_type_is_the_base_s(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]]
) -> None:
    base, tam = models("gpt2")
    name = "transformer.h.0.attn.bias"
    ours, theirs = changed(base, tmp_path / "base", {name: MASK}), changed(tam, tmp_path / "tam", {name: MASK.float()})
    assert "'transformer.h.0.attn.bias'" in told(ours, theirs)["tensors that the base has"]
    assert torch.equal(merged(ours, theirs)[name], MASK)


def test_a_buffer_that_a_class_does_without_may_be_missing(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]]
) -> None:
    base, tam = models("bart")
    poorer = changed(tam, tmp_path / "tam", {}, without="final_logits_bias")
    assert "none of 'final_logits_bias'" in told(base, poorer)["tensors that the base has"]


@pytest.mark.parametrize(
    ("kind", "without", "more"),
    [
        ("gpt2", "h.0.attn.c_attn.bias", {}),  # the class's pattern for masks, attn.bias, is found in this name, too
        ("llama", "layers.1.mlp.up_proj", {}),
        ("llama", " ", {"model.layers.0.self_attn.q_proj.bias": torch.rand(64)}),
        ("llama", " ", {"model.layers.2.mlp.up_proj.weight": torch.rand(64)}),  # no heads for several tokens
        ("qwen3_next", "layers.0.mlp.gate", {}),
        ("deepseek_v3", " ", {"model.layers.1.extra.weight": torch.rand(4)}),
    ],
)
def test_what_a_class_needs_or_nobody_knows_is_still_a_misfit(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]], kind: str, without: str, more: Tensors
) -> None:
    base, tam = models(kind)
    name = next(iter(more), "") or next(name for name in load_file(tam / SAFE) if without in name)
    words = "tensor {!r} that the base has not" if more else "has no tensor {!r} that the base has"
    with pytest.raises(ArtefactError, match=re.escape(words.format(name))):
        told(base, changed(tam, tmp_path / "tam", more, without))


def test_names_without_the_model_s_own_prefix_are_matched(
    tmp_path: Path, models: Callable[[str], tuple[Path, Path]]
) -> None:
    # As GPT-2 is published: h.0.attn.c_attn.weight, with masks; transformers writes transformer.h.0...
    base, tam = models("gpt2")
    content = {name.removeprefix("transformer."): tensor for name, tensor in load_file(base / SAFE).items()}
    published = changed(base, tmp_path / "base", content | {"h.0.attn.bias": MASK.float()}, without="transformer.")
    expected = {name.removeprefix("transformer."): tensor for name, tensor in merged(base, tam).items()}
    found = merged(published, tam)
    assert "'h.0.attn.bias'" in told(published, tam)["tensors that the base has"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_class_that_nobody_knows_ignores_nothing(tmp_path: Path) -> None:
    config = open_checkpoint(tiny_llama(tmp_path / "base")).config
    assert loading(config | {"model_type": "unheard_of"}) is None
    assert loading(config | {"architectures": ["OfTomorrow"]}) is None
    assert loading(config | {"architectures": ["AutoTokenizer"]}) is None
    assert loading(config | {"hidden_size": "x"}) is None
    assert loading(config | {"num_hidden_layers": 9_999}) is None  # which would take a minute
    assert loading(config | {"vision_config": {"depth": 10**6}}) is None
    assert isinstance(loading(config), Loading)
