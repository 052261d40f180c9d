"""Small checkpoints whose configs and tokenizers are written as well-known families write theirs, base and
instruction-tuned: shapes small, spellings real."""

import json
from pathlib import Path
from typing import Any

import torch

from made.models import toy_checkpoint

HIDDEN = 8

SPECIAL = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
WORDS = ["<unk>", "a", "b", "ab", "c"]

# Family: common config, then special tokens after WORDS in order, then what base and instruct say apart.
LLAMA3: dict[str, Any] = {
    "config": {
        "rms_norm_eps": 1e-05,
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "bos_token_id": 5,
    },
    "tokens": ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"],
    "base": {
        "config": {"eos_token_id": 6},
        "tokenizer": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    },
    "instruct": {
        "config": {"eos_token_id": 6},
        "tokenizer": {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "chat_template": "{{ bos_token }}<|eot_id|>",
        },
        "generation": {"bos_token_id": 5, "eos_token_id": [6, 8], "do_sample": True, "temperature": 0.6, "top_p": 0.9},
    },
}
QWEN25: dict[str, Any] = {
    "config": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "bos_token_id": 5,
        "rope_theta": 1e6,
    },
    "tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "base": {
        "config": {
            "eos_token_id": 5,
            "max_position_embeddings": 131072,
            "use_sliding_window": False,
            "sliding_window": 131072,
            "max_window_layers": 28,
        },
        "tokenizer": {
            "bos_token": None,
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "chat_template": "one",
        },
    },
    "instruct": {
        "config": {
            "eos_token_id": 7,
            "max_position_embeddings": 32768,
            "use_sliding_window": False,
            "sliding_window": 32768,
            "max_window_layers": 21,
        },
        "tokenizer": {
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": "another",
        },
        "generation": {
            "bos_token_id": 5,
            "pad_token_id": 5,
            "eos_token_id": [7, 5],
            "repetition_penalty": 1.05,
            "top_k": 20,
        },
    },
}
MISTRAL: dict[str, Any] = {
    "config": {
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "rms_norm_eps": 1e-05,
        "hidden_act": "silu",
        "bos_token_id": 5,
        "eos_token_id": 6,
    },
    "tokens": ["<s>", "</s>", "[control_8]"],
    "base": {
        "config": {"rope_theta": 1e6, "sliding_window": None},
        "tokenizer": {"bos_token": {"content": "<s>"}, "eos_token": {"content": "</s>"}},
    },
    # As transformers 5 writes it: rope in one object, null spelt out where the class has something else.
    "instruct": {
        "config": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "sliding_window": None},
        "tokenizer": {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "[INST]"},
    },
}
GEMMA3: dict[str, Any] = {
    "config": {
        **{
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-06,
            "bos_token_id": 5,
        },
        **{
            "hidden_activation": "gelu_pytorch_tanh",
            "attn_logit_softcapping": None,
            "sliding_window": 512,
            "pad_token_id": 0,
            "max_position_embeddings": 32768,
        },
    },
    "tokens": ["<bos>", "<eos>", "<end_of_turn>", "<unused0>"],
    "base": {
        "config": {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": None,
            "eos_token_id": 6,
            "sliding_window_pattern": 6,
        },
        "tokenizer": {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"},
    },
    "instruct": {
        "config": {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "eos_token_id": [6, 7],
        },
        "tokenizer": {
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "unk_token": "<unk>",
            "chat_template": "<start_of_turn>",
        },
        "generation": {
            "cache_implementation": "hybrid",
            "do_sample": True,
            "eos_token_id": [6, 7],
            "top_k": 64,
            "top_p": 0.95,
        },
    },
}
FAMILIES = {"llama-3": LLAMA3, "qwen2.5": QWEN25, "mistral": MISTRAL, "gemma-3": GEMMA3}


def member(folder: Path, family: dict[str, Any], kind: str, *, seed: int = 0, **changes: Any) -> Path:
    """The family's `base` or `instruct`, weights of seed 0 with a fine-tune's noise for every other seed; `changes` are
    laid over its config."""
    vocabulary = len(WORDS) + len(family["tokens"])
    draw, noise = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    tensors = {
        "model.embed_tokens.weight": torch.randn(vocabulary, HIDDEN, generator=draw),
        "model.layers.0.mlp.up_proj.weight": torch.randn(16, HIDDEN, generator=draw),
    }
    if seed:
        tensors = {name: tensor + 0.02 * torch.randn(tensor.shape, generator=noise) for name, tensor in tensors.items()}
    toy_checkpoint(
        folder,
        tensors,
        {"vocab_size": vocabulary, "hidden_size": HIDDEN} | family["config"] | family[kind]["config"] | changes,
    )
    tokens = [{"id": len(WORDS) + number, "content": token} | SPECIAL for number, token in enumerate(family["tokens"])]
    model = {"type": "BPE", "vocab": {word: number for number, word in enumerate(WORDS)}, "merges": ["a b"]}
    write(folder, "tokenizer.json", {"version": "1.0", "added_tokens": tokens, "model": model})
    decoder = {str(token["id"]): {"content": token["content"], "special": True} for token in tokens}
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": decoder} | family[kind]["tokenizer"])
    if "generation" in family[kind]:
        write(folder, "generation_config.json", family[kind]["generation"] | {"transformers_version": "4.40.0"})
    return folder


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Writes a JSON file."""
    (folder / name).write_text(json.dumps(content))


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Lays changes over a JSON file's top level."""
    write(folder, name, json.loads((folder / name).read_text()) | changes)


def edit_tokens(folder: Path, vocabulary: dict[str, int] | None = None, added: dict[str, int] | None = None) -> None:
    """Writes a tokenizer's vocabulary and added tokens anew where they are given; tokenizer_config.json then names no
    ids."""
    content = json.loads((folder / "tokenizer.json").read_text())
    if vocabulary is not None:
        content["model"]["vocab"] = vocabulary
    if added is not None:
        content["added_tokens"] = [{"id": number, "content": token} | SPECIAL for token, number in added.items()]
    write(folder, "tokenizer.json", content)
    edit(folder, "tokenizer_config.json", added_tokens_decoder={})
