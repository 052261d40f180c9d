"""One text in several Unicode forms: composed or decomposed, presentation forms, full-width letters, a language's own
digits. None of them makes an answer another answer.

Superscripts and fractions keep their form: 3² is not 32.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

SHAPES = frozenset({"wide", "narrow", "initial", "medial", "final", "isolated", "vertical", "font"})
"""Compatibility tags of characters that are others in a shape or width of their own."""
MEANT = frozenset({"super", "sub", "fraction", "square"})
"""Compatibility tags of characters whose form says something: they are no others."""
JOINERS = "\u200c\u200d"
"""They part or join letters, which Persian and the scripts of India read; all other marks of format are not seen."""


def signature() -> list[str]:
    """Returns what the forms depend on, as JSON data."""
    return ["forms 1", unicodedata.unidata_version]


def composed(text: str) -> str:
    """Returns the text in NFC, letters in shapes or widths of their own as the letters that they are: as texts of a
    language are usually stored."""
    return unicodedata.normalize("NFC", "".join(map(_unshaped, text)))


def plain(text: str) -> str:
    """Returns the text in NFKC, but for characters whose form says something; decimal digits of every script as 0 to 9,
    marks that nobody sees left out."""
    return unicodedata.normalize("NFC", "".join(map(_plain, text)))


def alike(prediction: str, references: Sequence[str]) -> tuple[str, list[str]]:
    """Returns a prediction in the canonical form, NFC or NFD, that the references are in, and these: as they are, or in
    NFC if they are in neither form."""
    for form in ("NFC", "NFD"):
        if all(unicodedata.is_normalized(form, reference) for reference in references):
            return unicodedata.normalize(form, prediction), list(references)
    return unicodedata.normalize("NFC", prediction), [unicodedata.normalize("NFC", one) for one in references]


def tag(character: str) -> str:
    """Returns a character's compatibility tag, such as `super`; empty where it has none."""
    found = unicodedata.decomposition(character)
    return found[1:].partition(">")[0] if found.startswith("<") else ""


@lru_cache(maxsize=100_000)
def _unshaped(character: str) -> str:
    is_ligature = "\ufb00" <= character <= "\ufb4f"
    return unicodedata.normalize("NFKC", character) if is_ligature or tag(character) in SHAPES else character


@lru_cache(maxsize=100_000)
def _plain(character: str) -> str:
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    if unicodedata.category(character) == "Cf" and character not in JOINERS:
        return ""
    return character if tag(character) in MEANT else unicodedata.normalize("NFKC", character)
