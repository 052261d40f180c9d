"""The table by which a SentencePiece normalizer replaces characters, in tokenizer.json or in a SentencePiece model: its
readers follow its offsets wherever they lead."""

import base64
import binascii

import numpy as np

_VALUE = 2**31 - 1


def is_sound(text: str) -> bool:
    """Returns whether a `precompiled_charsmap` in Base64 is sound; see `is_sound_table`."""
    try:
        return is_sound_table(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


def is_sound_table(content: bytes) -> bool:
    """Returns whether every offset of a `precompiled_charsmap` stays within it, whatever text it is asked about.

    Args:
        content: the size in bytes of a double-array trie, the trie (uint32, little-endian), and the replacements
            (UTF-8, each ended by NUL).

    Source: SentencePiece `normalizer.cc`, darts-clone `DoubleArrayUnit`.
    """
    size = int.from_bytes(content[:4], "little")
    try:
        content[4 + size :].decode("utf-8")
    except UnicodeDecodeError:
        return False
    if size % 4 or not 1024 <= size <= len(content) - 4:
        return False
    units = np.frombuffer(content, "<u4", size // 4, 4).astype(np.int64)
    replacements = np.frombuffer(content + b"\0", np.uint8, len(content) - 3 - size, 4 + size)
    # A unit leads to those that differ from its target in the last byte: all 256 must be there.
    inner = np.flatnonzero(units <= _VALUE)
    targets = inner ^ ((units[inner] >> 10) << ((units[inner] & 512) >> 6))
    if (targets | 255).max(initial=0) >= len(units):
        return False
    starts = units[targets[(units[inner] & 256) > 0]] & _VALUE
    return bool((starts < len(replacements)).all() and (replacements[starts] & 0xC0 != 0x80).all())
