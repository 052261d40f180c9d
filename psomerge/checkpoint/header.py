"""The header of a safetensors file: where each tensor lies, checked before a single byte of a tensor is used.

Stricter than the safetensors library: no key twice, no unknown dtype or key, no absurd count. Source: the format's
description in the safetensors README.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from psomerge.errors import ArtefactError
from psomerge.files.untrusted import parse_object

MAX_HEADER = 32 * 2**20
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
MAX_NAME = 512

DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
CODES: Mapping[torch.dtype, str] = {dtype: code for code, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as it is stored: bytes `begin` to `end` of `file`, counted from the file's start."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    file: str
    begin: int
    end: int


def parse_header(content: "bytes | memoryview", size: int, file: str, where: str) -> dict[str, TensorInfo]:
    """Returns the tensors that the start of a safetensors file declares, in the order in which they lie there.

    Args:
        content: the file's first bytes, at least the header.
        size: of the whole file in bytes.
        file: the file's name, kept in each TensorInfo.
        where: the file's path, for messages.

    Raises:
        ArtefactError: the header is cut off, too long, no JSON, or its tensors do not fill the file exactly.
    """
    if size < 8:
        raise ArtefactError(f"{where}: truncated: {size} bytes, expected a safetensors file; fetch it again")
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise ArtefactError(
            f"{where}: header of {length} bytes, expected at most {MAX_HEADER}; this is no safetensors file"
        )
    if 8 + length > size:
        raise ArtefactError(
            f"{where}: truncated: the header says {length} bytes, the file has {size - 8} left; fetch it again"
        )
    text = bytes(content[8 : 8 + length])
    if (
        count := text.count(b'"data_offsets"')
    ) > MAX_TENSORS:  # before so many are made objects of, which takes seconds
        raise ArtefactError(f"{where}: declares {count} tensors, expected at most {MAX_TENSORS}")
    entries = parse_object(text, f"{where}: header")
    _check_metadata(entries.pop("__metadata__", {}), where)
    if not entries:
        raise ArtefactError(f"{where}: holds no tensor; expected the weights of a model")
    if len(entries) > MAX_TENSORS:
        raise ArtefactError(f"{where}: declares {len(entries)} tensors, expected at most {MAX_TENSORS}")
    infos = {
        name: _parse_entry(name, entry, file=file, data=8 + length, where=where) for name, entry in entries.items()
    }
    infos = dict(sorted(infos.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_filled(infos, 8 + length, size, where=where)
    return infos


def _check_metadata(metadata: object, where: str) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast("dict[str, object]", metadata).values()
    ):
        raise ArtefactError(f"{where}: bad header: expected __metadata__ to map texts to texts")


def _parse_entry(name: str, entry: Any, *, file: str, data: int, where: str) -> TensorInfo:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        raise ArtefactError(
            f"{where}: bad header: tensor name {name[:40]!r} is empty, unprintable or longer than {MAX_NAME} characters"
        )
    if not isinstance(entry, dict) or set(cast("dict[str, object]", entry)) != {"dtype", "shape", "data_offsets"}:
        raise ArtefactError(f"{where}: bad header: tensor {name!r} needs exactly dtype, shape and data_offsets")
    code = str(cast("object", entry["dtype"]))
    if code not in DTYPES:
        raise ArtefactError(
            f"{where}: tensor {name!r} has dtype {code[:20]!r}, expected one of {', '.join(DTYPES)}; convert the "
            "checkpoint"
        )
    dtype = DTYPES[code]
    shape, offsets = _counts(entry["shape"], name, where), _counts(entry["data_offsets"], name, where)
    if len(offsets) != 2:
        raise ArtefactError(f"{where}: bad header: tensor {name!r} needs two data_offsets, found {len(offsets)}")
    begin, end = offsets
    needed = math.prod(shape) * dtype.itemsize
    if end - begin != needed:
        raise ArtefactError(
            f"{where}: tensor {name!r} of {code} {list(shape)} takes {needed} bytes, its data_offsets say {end - begin}"
        )
    return TensorInfo(dtype, shape, file, data + begin, data + end)


def _counts(values: Any, name: str, where: str) -> tuple[int, ...]:
    # type() and not isinstance(): JSON's true is an int to Python.
    counts = cast("list[int]", values) if isinstance(values, list) else [-1]
    if len(counts) > MAX_DIMENSIONS or not all(type(count) is int and 0 <= count < 2**63 for count in counts):
        raise ArtefactError(
            f"{where}: bad header: shape and data_offsets of tensor {name!r} must be lists of at most "
            f"{MAX_DIMENSIONS} whole numbers from 0 on"
        )
    return tuple(counts)


def _check_filled(infos: Mapping[str, TensorInfo], start: int, size: int, *, where: str) -> None:
    """Raises ArtefactError unless the tensors, ordered by place, lie end to end from `start` to `size`."""
    position = start
    for name, info in infos.items():
        if info.end > size:
            raise ArtefactError(
                f"{where}: truncated: tensor {name!r} ends at byte {info.end}, the file at {size}; fetch it again"
            )
        if info.begin != position:
            fault = "overlaps the one before it" if info.begin < position else "leaves a hole before it"
            raise ArtefactError(
                f"{where}: bad header: tensor {name!r} {fault} (begins at byte {info.begin}, expected {position})"
            )
        position = info.end
    if position != size:
        raise ArtefactError(
            f"{where}: the tensors end at byte {position}, the file at {size}; expected nothing behind them"
        )


def header_bytes(tensors: Mapping[str, TensorInfo]) -> bytes:
    """Returns length and header of a safetensors file; the tensors' `begin` and `end` count from its end, and it is
    padded to keep them aligned."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, info in tensors.items():
        entries[name] = {"dtype": CODES[info.dtype], "shape": list(info.shape), "data_offsets": [info.begin, info.end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
