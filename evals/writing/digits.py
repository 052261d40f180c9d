"""A text as numbers are read of it: digits of every script as 0 to 9, marks and fractions in one form each."""

import re
import unicodedata
from functools import lru_cache

from psomerge.evals.writing.forms import tag

LONGEST = 400
"""Characters of a number: what is longer, a model that repeats itself, is none."""
BLANK = "\u2009"
"""Stands for every blank that does not break a line: between digits it parts thousands."""
_SEEN_AS = (
    dict.fromkeys("-\u2010\u2011\u2012\u2013\u2212\u02d7\u2796", "-")
    | dict.fromkeys("'\u2018\u2019\u02bc", "'")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", BLANK)
    | dict.fromkeys("\ufe10\ufe50\uff0c", "\uff0c")
    | {"\u060c": ",", "\u2215": "/"}
)
RUN = "[0-9]+(?:[.,'\u066b\u066c\u2009\uff0c][0-9]+)*"
"""Pattern of digits with the marks that may part or join them."""
_BESIDE = "\u2064"
"""Invisible plus: between a whole number and a fraction that is written as such (3½), and before one alone."""
_LATEX_FRACTION = re.compile(rf"\\[cdt]?frac ?(?:\{{ ?([-+]?{RUN}) ?\}}|([0-9])) ?(?:\{{ ?([0-9]+) ?\}}|([0-9]))")
_SLASHED = re.compile(r"(?<![0-9/\u2044])[0-9]+(?: ?[/\u2044] ?[0-9]+)+")
_UNDERSCORED = re.compile(r"(?<!\w)[0-9]{1,3}(?:_[0-9]{3})+(?!\w)")


def legible(text: str) -> str:
    """Returns the text with digits of every script as 0 to 9, each mark in one form and fractions with U+2044; only
    numbers can be read of it."""
    shown = "".join(map(seen, text.replace("{,}", ",").replace("\\,", BLANK)))  # LaTeX's thousands
    shown = _LATEX_FRACTION.sub(rf"{_BESIDE}\1\2/\3\4", shown)
    shown = re.sub(rf"(?<=[0-9])[ {BLANK}]?{_BESIDE}(?=[0-9])", " ", shown).replace(_BESIDE, "")
    return _UNDERSCORED.sub(lambda match: match[0].replace("_", ""), _SLASHED.sub(_slashed, shown))


def _slashed(chain: re.Match[str]) -> str:
    """Numbers with slashes between them: a fraction with U+2044, all else, such as a date, with "/"."""
    over, *under = re.split(" ?[/\u2044] ?", chain[0])
    goes_on = re.match("/|[.][0-9]|,[0-9]+(?![0-9/\u2044])", chain.string[chain.end() : chain.end() + LONGEST])
    if len(under) > 1 or goes_on or not under[0].strip("0") or len(under[0]) > LONGEST:
        return chain[0].replace("\u2044", "/")
    return f"{over}\u2044{under[0]}"


@lru_cache(maxsize=100_000)
def seen(character: str) -> str:
    """Returns a character as it is read: a digit, a mark, nothing where it is an accent or not seen."""
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    category, how = unicodedata.category(character), tag(character)
    if category == "Sc":
        return "$"
    if category == "Cf" or category.startswith("M"):
        return ""
    if how in ("super", "sub", "square"):  # m², ㎡: no 2
        return " "
    form = _SEEN_AS.get(character) or unicodedata.normalize("NFKC", character)
    return f"{_BESIDE}{form}" if how == "fraction" else _SEEN_AS.get(form, form)
