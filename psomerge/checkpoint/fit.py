"""Whether an expert can be merged with a base, and whether a checkpoint's values are numbers at all."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from psomerge.checkpoint.config import sections, stored_dtype
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError

CHUNK = 2**15
"""Elements that are looked at together; torch looks at so few on one thread, which beside other threads' work is much faster than on all."""
MAX_LISTED = 8
"""Misfits of one expert in an error's text; `misfits` returns them all."""
SHAPE_FIELDS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"),
    *("tie_word_embeddings", "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"),
    *("kv_lora_rank", "q_lora_rank", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads"),
    *("encoder_layers", "decoder_layers", "encoder_ffn_dim", "decoder_ffn_dim", "n_embd", "n_head", "n_layer", "n_inner", "word_embed_proj_dim"),
)
"""Fields of config.json by which an architecture's shapes and heads are laid out. Two checkpoints with equal shapes but another number of heads do not fit."""


def check_finite(checkpoint: Checkpoint) -> None:
    """Raises ArtefactError naming the first tensor that holds NaN or an infinity, and how many."""
    for name, info in checkpoint.tensors.items():
        if info.dtype.is_floating_point:
            check_finite_tensor(checkpoint.tensor(name), f'"{checkpoint.name}" ({checkpoint.folder / info.file}): tensor {name!r}')


def check_finite_tensor(tensor: torch.Tensor, where: str) -> None:
    """Raises ArtefactError, its text beginning with `where`, if a tensor (any shape, float dtype) holds NaN or an infinity."""
    chunks = torch.split(tensor.reshape(-1), CHUNK)
    # One pass without a workspace: NaN wins in both ends of a chunk, an infinity is one of them.
    ends = [end for chunk in chunks if chunk.numel() for end in chunk.aminmax()]
    if not ends or bool(torch.stack(ends).isfinite().all()):
        return
    count = sum(chunk.numel() - int(chunk.isfinite().sum()) for chunk in chunks)
    raise ArtefactError(f"{where} holds {count} values that are NaN or infinite, expected none; train or fetch it again")


def misfits(base: Checkpoint, expert: Checkpoint) -> list[str]:
    """Returns what keeps an expert from being merged with a base, one line each, all of them; empty if it fits."""
    return [*_config_misfits(base, expert), *_tensor_misfits(base, expert)]


def check_fit(base: Checkpoint, experts: Sequence[Checkpoint]) -> None:
    """Raises ArtefactError with the misfits of all experts on one line, of each the first few and the number of the rest."""
    lines: list[str] = []
    for expert in experts:
        found = misfits(base, expert)
        lines += found[:MAX_LISTED]
        if len(found) > MAX_LISTED:
            lines.append(f'"{expert.name}" has {len(found) - MAX_LISTED} more misfits')
    if lines:
        raise ArtefactError("; ".join(lines) + f"; merge only checkpoints fine-tuned from one base ({base.folder})")


def _config_misfits(base: Checkpoint, expert: Checkpoint) -> Iterator[str]:
    who = f'expert "{expert.name}"'
    for key in ("architectures", "model_type"):
        if base.config[key] != expert.config[key]:
            yield f"{who} has {key} {reprlib.repr(expert.config[key])}, the base {reprlib.repr(base.config[key])}"
    theirs = _shape_fields(expert.config)
    for key, value in _shape_fields(base.config).items():
        # A config may leave out what equals its class's default: only two that both speak can contradict each other.
        if key in theirs and theirs[key] != value:
            yield f"{who} has {key} {reprlib.repr(theirs[key])} in its config.json, the base {reprlib.repr(value)}"


def _shape_fields(config: Mapping[str, Any]) -> dict[str, object]:
    return {prefix + key: value for prefix, section in sections(config) for key, value in section.items() if key in SHAPE_FIELDS and value is not None}


def _tensor_misfits(base: Checkpoint, expert: Checkpoint) -> Iterator[str]:
    who = f'expert "{expert.name}"'
    declared = stored_dtype(expert.config, str(expert.folder / "config.json"))
    for name, ours in base.tensors.items():
        theirs = expert.tensors.get(name)
        if theirs is None:
            yield f"{who} has no tensor {name!r} that the base has"
        elif theirs.shape != ours.shape:
            yield f"{who} has tensor {name!r} of shape {list(theirs.shape)}, the base {list(ours.shape)}"
        elif theirs.dtype != ours.dtype and not (ours.dtype.is_floating_point and theirs.dtype == declared):
            says = f"its config says {_short(declared)}" if declared else "its config says none"
            yield f"{who} has tensor {name!r} in {_short(theirs.dtype)}, but {says} and the base has it in {_short(ours.dtype)}"
        elif not ours.dtype.is_floating_point and not torch.equal(base.tensor(name), expert.tensor(name)):
            yield f"{who} has other values in the {_short(ours.dtype)} tensor {name!r} than the base; only float tensors can be merged"
    for name in expert.tensors:
        if name not in base.tensors:
            yield f"{who} has tensor {name!r} that the base has not"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
