"""Random checkpoints to measure on: a base and experts near it, as large as a real model; they answer nothing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """A Llama with tied embeddings; heads have 64 elements."""

    hidden: int
    feed_forward: int
    layers: int
    key_value_heads: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields names and shapes of the checkpoint's tensors."""
        hidden, narrow = self.hidden, 64 * self.key_value_heads
        yield "model.embed_tokens.weight", (self.vocabulary, hidden)
        for i in range(self.layers):
            prefix = f"model.layers.{i}."
            yield prefix + "input_layernorm.weight", (hidden,)
            yield prefix + "post_attention_layernorm.weight", (hidden,)
            for name, rows in (("q", hidden), ("k", narrow), ("v", narrow), ("o", hidden)):
                yield f"{prefix}self_attn.{name}_proj.weight", (rows, hidden)
            for name in ("gate", "up"):
                yield f"{prefix}mlp.{name}_proj.weight", (self.feed_forward, hidden)
            yield prefix + "mlp.down_proj.weight", (hidden, self.feed_forward)
        yield "model.norm.weight", (hidden,)

    def config(self) -> dict[str, object]:
        """Returns the content of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // 64,
            "num_key_value_heads": self.key_value_heads,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": True,
        }


LARGE = Shape(hidden=576, feed_forward=1536, layers=30, key_value_heads=3, vocabulary=49152)
"""134.5 M parameters, the shape of SmolLM-135M."""
SMALL = Shape(hidden=64, feed_forward=96, layers=2, key_value_heads=1, vocabulary=128)
"""For trying a benchmark, not for its figures."""


def make_models(folder: Path, shape: Shape, experts: int) -> dict[str, Path]:
    """Returns the folders of `base` and of experts `expert1` ..., bfloat16, written below `folder`; what is there
    already stays."""
    names = ["base", *(f"expert{i}" for i in range(1, experts + 1))]
    for number, name in enumerate(names):
        if not (folder / name / "config.json").exists():
            _write(folder / name, shape, number)
    return {name: folder / name for name in names}


def _write(folder: Path, shape: Shape, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    original, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(number)
    tensors: dict[str, Tensor] = {}
    for name, size in shape.tensors():
        tensor = torch.randn(size, generator=original) * 0.02
        if number:
            tensor += torch.randn(size, generator=noise) * 0.002
        tensors[name] = tensor.bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(shape.config()))
