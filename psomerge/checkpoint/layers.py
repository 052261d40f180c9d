"""What the names of tensors say about their place in a model: the order of layers, the output head, the input
embedding, what no class takes any more."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from psomerge.checkpoint.header import TensorInfo

_HEADS = ("lm_head.weight", "embed_out.weight", "output_projection.weight")
_EMBEDDINGS = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "shared.weight"),
    *("tokens_embed.weight", "backbone.embeddings.weight"),
)

_LEFT_ASIDE = re.compile(
    r"rotary(_pos)?_emb\.(inv_freq|cos_cached|sin_cached)$|(^|\.)position_ids$|\.masked_bias$|(^|\.)mtp(_\w+)?\."
    r"|(^|\.)v_head\.|\.[kv]_scale$"
)


def is_left_aside(name: str) -> bool:
    """Returns whether a tensor is none that a language model's class takes: rotary tables, positions and mask constants
    that older versions stored, heads for multi-token prediction, the head for rewards that TRL trains beside."""
    return bool(_LEFT_ASIDE.search(name))


def is_head(name: str) -> bool:
    """Returns whether a tensor is the matrix of the output head."""
    return name.endswith(_HEADS)


def is_embedding(name: str) -> bool:
    """Returns whether a tensor is the matrix of the input embedding."""
    return name.endswith(_EMBEDDINGS)


def vocabulary_rows(tensors: Mapping[str, TensorInfo]) -> int | None:
    """Returns the rows of the input embedding, None where no tensor has the name of one."""
    return next((info.shape[0] for name, info in tensors.items() if is_embedding(name) and info.shape), None)


def has_row_a_token(name: str, info: TensorInfo, rows: int | None) -> bool:
    """Returns whether a tensor has one row for each of the vocabulary's rows: embedding, head, the head's bias."""
    return (
        rows is not None
        and info.shape[:1] == (rows,)
        and name.endswith((*_EMBEDDINGS, *_HEADS, "lm_head.bias", "embed_out.bias"))
    )


def with_rows(tensors: Mapping[str, TensorInfo], rows: int) -> dict[str, TensorInfo]:
    """Returns tensors of which those with a row for each token have so many of them; what is changed lies nowhere."""
    count = vocabulary_rows(tensors)
    return {
        name: _reshaped(info, rows) if has_row_a_token(name, info, count) else info for name, info in tensors.items()
    }


def _reshaped(info: TensorInfo, rows: int) -> TensorInfo:
    shape = (rows, *info.shape[1:])
    return replace(info, shape=shape, begin=0, end=math.prod(shape) * info.dtype.itemsize)


def layer_order(name: str) -> tuple[int, tuple[tuple[int, int, str], ...]]:
    """Returns a sorting key: embeddings, numbered layers (10 after 9), what has no number (the last norm), head."""
    parts = tuple(
        (0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in name.split(".")
    )
    if is_head(name) or name.startswith("lm_head."):
        return 3, parts
    if any(kind == 0 for kind, _, _ in parts):
        return 1, parts
    return (0 if any(word in name for word in ("embed", "wte", "wpe", "shared")) else 2), parts
