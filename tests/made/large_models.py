"""Checkpoints as large as real ones, of which only what a plan may ask for exists: headers of the right form, configs,
a tokenizer of many megabytes."""

import json
from collections.abc import Callable, Mapping
from functools import cache

import torch

from doubles.hub_server import Content, Virtual
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.shards import plan_shards

LAYERS, HIDDEN, WIDE, HEADS, KEYS, VOCABULARY = 80, 8192, 28672, 64, 8, 128_256
PARAMETERS = 70_553_706_496
"""Of Llama 3 with 70 billion parameters, as its model card has them."""
SHARD = 4_900_000_000
"""Bytes of tensors in a file, which makes thirty."""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
}
Shapes = dict[str, tuple[int, ...]]


def shapes() -> Shapes:
    """Every tensor of the model."""
    small = HIDDEN * KEYS // HEADS
    found: Shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        found |= {f"{layer}.self_attn.{part}_proj.weight": (HIDDEN if part == "q" else small, HIDDEN) for part in "qkv"}
        found |= {f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN), f"{layer}.mlp.down_proj.weight": (HIDDEN, WIDE)}
        found |= {f"{layer}.mlp.{part}_proj.weight": (WIDE, HIDDEN) for part in ("gate", "up")}
        found |= {f"{layer}.{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    return found | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


@cache
def tokenizer(extra: str = "") -> bytes:
    """A tokenizer.json of 13 MB; `extra` is a token of its own."""
    words = {f"token-{number:06d}-of-a-large-vocabulary": number for number in range(VOCABULARY - 1)} | {
        extra or "the-last": VOCABULARY - 1
    }
    merges = [[f"piece-{number:06d}", f"other-{number:06d}"] for number in range(VOCABULARY)]
    return json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": words, "merges": merges}}).encode()


def large_model(
    *,
    change: Callable[[Shapes], Shapes] = dict,
    config: Mapping[str, object] | None = None,
    tokens: bytes | None = None,
    shard: int = SHARD,
) -> dict[str, Content]:
    """The files of a 70 B checkpoint in 30 shards, after changes to its shapes, config or tokenizer."""
    tensors = {name: TensorInfo(torch.bfloat16, shape, "", 0, 0) for name, shape in change(shapes()).items()}
    shards = plan_shards(tensors, "base", shard)
    index = {"metadata": {}, "weight_map": {name: one.file for one in shards for name in one.tensors}}
    small = {
        "config.json": CONFIG | dict(config or {}),
        "generation_config.json": {},
        "tokenizer_config.json": {"model_max_length": 8192},
    }
    return {
        **{name: json.dumps(content).encode() for name, content in small.items()},
        "model.safetensors.index.json": json.dumps(index).encode(),
        "tokenizer.json": tokens or tokenizer(),
        "original/consolidated.00.pth": b"a pickle",
        **{one.file: Virtual(one.header, one.size) for one in shards},
    }
