"""A SentencePiece model, looked at before any library opens it: its parts lie within each other, and the table by which
it replaces characters is sound."""

from collections.abc import Iterator
from hashlib import sha256

from psomerge.screening.charsmap import is_sound_table

_NORMALIZERS = (3, 5)
"""Fields of ModelProto: normalizer_spec and denormalizer_spec."""
_TABLE = 2
"""Field of NormalizerSpec: precompiled_charsmap."""
_seen: set[bytes] = set()
"""Digests of what was found sound: experts of one base mostly bring its tokenizer along."""


def fault_of_model(content: bytes) -> str:
    """Returns what is wrong with a SentencePiece model; empty if nothing.

    Args:
        content: of the file, a ModelProto.

    Source: `sentencepiece_model.proto`; Protocol Buffers, encoding.
    """
    digest = sha256(content).digest()
    if digest in _seen:
        return ""
    try:
        tables = [
            table
            for number, part in _fields(content)
            if number in _NORMALIZERS
            for field, table in _fields(part)
            if field == _TABLE and table
        ]
    except ValueError:
        return "is damaged"
    if not all(map(is_sound_table, tables)):
        return "has a damaged table of replacements (precompiled_charsmap)"
    _seen.add(digest)
    return ""


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields number and bytes of the fields of a message that have a length. Raises ValueError where a field leads out
    of it."""
    at = 0
    while at < len(content):
        tag, at = _number(content, at)
        kind, size = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
        if kind in (0, 2):
            value, at = _number(content, at)
            size = value if kind == 2 else 0
        elif not size:
            raise ValueError(f"a field of kind {kind}")
        if size > len(content) - at:
            raise ValueError("a field that is longer than what holds it")
        if kind == 2:
            yield tag >> 3, content[at : at + size]
        at += size


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Returns the varint at an offset, and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return value, at
    raise ValueError("a number without an end")
