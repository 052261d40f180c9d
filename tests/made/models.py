"""Small real checkpoints for tests."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def toy_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], config: dict | None = None) -> Path:
    """A folder with `model.safetensors` and a Llama-like config.json; the tensors need not form a model."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    content = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": dtype,
        "tie_word_embeddings": True,
    } | (config or {})
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def tiny_llama(
    folder: Path,
    seed: int = 0,
    *,
    tied: bool = True,
    dtype: torch.dtype = torch.bfloat16,
    hidden: int = 64,
    layers: int = 2,
    vocab: int = 256,
) -> Path:
    """A random Llama with byte-level tokenizer, as transformers writes it. Heads of 32: vLLM's CPU attention has no
    smaller ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).to(dtype)
    model.save_pretrained(folder)
    byte_tokenizer(vocab).save_pretrained(folder)
    return folder


def byte_tokenizer(vocab: int = 256, pad: str = "<eos>", *, closes: bool = False) -> Any:
    """A tokenizer with a token for padding, number 0, for the end of a text (the same, or number 1) and for each byte
    (the last ones left out).

    With `closes` it ends each text by itself, as T5's does.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate([*dict.fromkeys((pad, "<eos>")), *alphabet][:vocab])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if closes:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", words["<eos>"])]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token=pad)
