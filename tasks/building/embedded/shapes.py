"""What an embedded model will be, before it is trained: config and shapes, without a value."""

from pathlib import Path

import torch

from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.reader import Checkpoint
from psomerge.tasks.building.embedded.recipe import SHAPE


def untrained(folder: Path, name: str) -> Checkpoint:
    """Returns the checkpoint that training will write, as far as it can be known: no files, and tensors that nobody
    must ask for.

    Args:
        folder: that it will be in.
        name: as the recipe calls it: `base`, or an expert's name.
    """
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "tie_word_embeddings": True,
        "vocab_size": SHAPE.vocabulary,
        "hidden_size": SHAPE.hidden,
        "intermediate_size": SHAPE.feed_forward,
        "num_hidden_layers": SHAPE.layers,
        "num_attention_heads": SHAPE.heads,
        "num_key_value_heads": SHAPE.heads,
    }
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for tensor, shape in _shapes().items():
        begin, end = end, end + torch.Size(shape).numel() * torch.bfloat16.itemsize
        tensors[tensor] = TensorInfo(torch.bfloat16, shape, "model.safetensors", begin, end)
    return Checkpoint(folder, name, config, tensors, {}, True, {}, {})


def _shapes() -> dict[str, tuple[int, ...]]:
    hidden, wide = SHAPE.hidden, SHAPE.feed_forward
    layer = {
        **{f"self_attn.{part}_proj": (hidden, hidden) for part in "qkvo"},
        **{f"mlp.{part}_proj": (wide, hidden) for part in ("gate", "up")},
        "mlp.down_proj": (hidden, wide),
        **{f"{part}_layernorm": (hidden,) for part in ("input", "post_attention")},
    }
    layers = {
        f"model.layers.{number}.{part}.weight": shape for number in range(SHAPE.layers) for part, shape in layer.items()
    }
    return {"model.embed_tokens.weight": (SHAPE.vocabulary, hidden), **layers, "model.norm.weight": (hidden,)}
