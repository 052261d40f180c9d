"""Checkpoints whose vocabulary was extended as users do it: tokens added to the tokenizer, embedding resized, all of it
trained a little."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def extended(
    base: Path, folder: Path, tokens: list[Any], seed: int, *, multiple: int | None = None, size: float = 0.03
) -> Path:
    """A copy of a checkpoint with tokens added (texts, or `AddedToken`; special where they say so), noise in every
    tensor, and new rows drawn."""
    torch.manual_seed(seed)
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    tokenizer.add_tokens(tokens)
    model.resize_token_embeddings(
        max(len(tokenizer), model.config.vocab_size), pad_to_multiple_of=multiple, mean_resizing=False
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += size * torch.randn_like(parameter)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_token(folder: Path, tensor: str) -> dict[str, torch.Tensor]:
    """The row of a tensor for each token of a checkpoint, by the libraries that users load both with."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), AutoTokenizer.from_pretrained(folder)
    rows = model.state_dict()[tensor]
    return {token: rows[number] for token, number in tokenizer.get_vocab().items()}
