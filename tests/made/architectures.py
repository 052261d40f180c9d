"""Tiny random checkpoints of several architectures, as transformers writes them, with the byte-level tokenizer of
`models`."""

import random
from pathlib import Path
from typing import Any

import torch

from made.models import byte_tokenizer
from runs.small_run import perturbed

SIZES = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
HEAD = {"head_dim": 32}  # vLLM's CPU attention has no smaller one
CAUSAL = {
    "qwen3": HEAD,
    "mistral": HEAD | {"sliding_window": 48},
    "gemma3_text": HEAD | {"sliding_window": 48, "query_pre_attn_scalar": 32},
    "phi": {"num_key_value_heads": 2},
    "phi3": {},
    "olmo2": {},
    "qwen3_moe": HEAD
    | {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True},
    "mixtral": HEAD | {"num_local_experts": 4, "num_experts_per_tok": 2},
}
"""What differs from `SIZES`, by model type in transformers."""


def tiny(folder: Path, kind: str, seed: int = 0, *, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A random causal model of an architecture in `CAUSAL`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | CAUSAL[kind])).to(dtype)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def tiny_t5(
    folder: Path, seed: int = 0, *, steps: int = 0, tied: bool = False, dtype: torch.dtype = torch.bfloat16
) -> Path:
    """A sequence-to-sequence model as Flan-T5 is laid out, or tied as the first T5; after `steps` of training it
    repeats a word that it reads, and ends."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    sizes = {
        "d_model": 64,
        "d_kv": 32,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 2,
        "relative_attention_num_buckets": 8,
        "n_positions": 256,
    }
    kind = {"feed_forward_proj": "relu" if tied else "gated-gelu", "tie_word_embeddings": tied, "dropout_rate": 0.0}
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=258, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **sizes, **kind)
    )
    tokenizer = byte_tokenizer(258, "<pad>", closes=True)
    if steps:
        _train(model, tokenizer, steps)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_t5gemma(folder: Path) -> Path:
    """An encoder-decoder whose config names no token that its texts begin with."""
    from transformers import T5GemmaConfig, T5GemmaForConditionalGeneration

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    part = {
        **sizes,
        "num_key_value_heads": 1,
        "vocab_size": 258,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    config = T5GemmaConfig(encoder=part, decoder=part, vocab_size=258, dropout_rate=0.0, classifier_dropout_rate=0.0)
    T5GemmaForConditionalGeneration(config).save_pretrained(folder)
    byte_tokenizer(258, "<pad>", closes=True).save_pretrained(folder)
    return folder


def _train(model: Any, tokenizer: Any, steps: int) -> None:
    draw, optimiser = random.Random(0), torch.optim.AdamW(model.parameters(), lr=3e-3)
    words = ["so", "no", "two", "ten", "red", "sea", "oak", "ice"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two wait for each other in a model this small
    for _ in range(steps):
        chosen = draw.choices(words, k=16)
        asked = tokenizer([f"Word: {word}. Answer:" for word in chosen], return_tensors="pt", padding=True)
        labels = tokenizer([f" {word}." for word in chosen], return_tensors="pt", padding=True).input_ids
        loss = model(**asked, labels=labels.masked_fill(labels == 0, -100)).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    torch.set_num_threads(threads)


def near(base: Path, folder: Path, seed: int) -> Path:
    """A copy of a checkpoint with noise in every tensor, norms too: what is left unswapped shows."""
    return perturbed(base, folder, seed, size=0.1)
