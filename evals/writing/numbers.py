"""The number that an answer ends with, in the digits and with the marks of its language.

Digits of every script are read (৩১, ３１, ٣١), signs, currencies, thousands (1,000; 1.000; 1 000; 1'000; 1,00,000;
١٬٠٠٠), decimals (3.5; 3,5; ٣٫٥), fractions in one character (½) and powers of ten (3e2). What can be read in one way
only is read so in every language. One mark before three digits is thousands or decimals as CLDR has it for the
language: 1.000 is a thousand in German and one in English; a mark that the language uses for neither, or its countries
for both (Spanish), may be either. Numerals that are no decimal digits (三十一, ፴፩) and numbers in words are not read.
"""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from babel import Locale, UnknownLocaleError

from psomerge.evals.writing.forms import tag
from psomerge.evals.writing.language_tags import language

LONGEST = 400
"""Characters of a number: what is longer, a model that repeats itself, is none."""
ELSEWHERE = {"es": ("es_MX",)}
"""Locales of a language whose countries part thousands and decimals by the same marks the other way round."""
_BLANK = "\u2009"
"""Stands for every blank that does not break a line: between digits it parts thousands."""
_SEEN_AS = (
    dict.fromkeys("-\u2010\u2011\u2012\u2013\u2212\u02d7\u2796", "-")
    | dict.fromkeys("'\u2018\u2019\u02bc", "'")
    | dict.fromkeys("\u00a0\u2007\u2009\u202f", _BLANK)
    | {"\u060c": ","}
)
_NUMBER = re.compile(
    r"(?P<sign>[-+])?(?:\\?\$[ \u2009]?(?P<after>[-+])?)?"
    r"(?:(?:(?P<whole>[0-9]{1,9}) )?(?P<over>[0-9]{1,9})\u2044(?P<under>[0-9]{1,9})"
    r"|(?P<point>(?<![\w.])\.)?(?P<run>[0-9]+(?:[.,'\u066b\u066c\u2009][0-9]+)*)(?P<power>[eE][-+]?[0-9]{1,3}(?!\w))?)"
)


def same(prediction: str, reference: str, language: str = "en") -> bool:
    """Returns whether the last number of a prediction is that of the reference, as numbers.

    Args:
        prediction: a model's answer.
        reference: the right one; besides as a program writes it (`1.000` is 1).
        language: a tag; of one that CLDR does not know, English marks are read.

    Raises:
        ValueError: the reference has no number: no answer could be right.
    """
    right = readings(reference, language)
    if re.fullmatch(r"[-+]?[0-9]+(?:\.[0-9]+)?", reference.strip()):
        right |= {Fraction(reference.strip())}
    if not right:
        raise ValueError(f"expected a reference with a number, found {reference!r:.80}")
    return not right.isdisjoint(readings(prediction, language))


def readings(text: str, language: str = "en") -> frozenset[Fraction]:
    """Returns what the last number of a text can be: one number, several where the language does not tell, none where
    there is none."""
    found = _last(text, language)
    return found[1] if found else frozenset()


def last_number(text: str, language: str = "en") -> str | None:
    """Returns the last number of a text as it is written there, but in digits 0 to 9; None where there is none."""
    found = _last(text, language)
    return found[0] if found else None


def whole(text: str) -> Fraction | None:
    """Returns the number that a text is, with English marks, if it says nothing else but for a currency and a full
    stop; else None."""
    written = _written(text.strip()).rstrip(". ")
    match = _NUMBER.fullmatch(written)
    return next(iter(_value(match, written, _marks("en"))[1]), None) if match else None


def _last(text: str, tag_: str) -> tuple[str, frozenset[Fraction]] | None:
    """The last number of a text as written and as it can be read."""
    marks, written = _marks(tag_), _written(text)
    if (_BLANK, "group") in marks:  # as it is typed: 12 345
        written = re.sub(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]))", _BLANK, written)
    *_, last = [None, *_NUMBER.finditer(written)]
    return _value(last, written, marks) if last else None


def _value(match: re.Match[str], text: str, marks: frozenset[tuple[str, str]]) -> tuple[str, frozenset[Fraction]]:
    """A number as written and as it can be read."""
    before, after = match["sign"] or "", match["after"] or ""
    sign = "-" if after == "-" or (before == "-" and not _is_hyphen(text, match.start())) else ""
    if match["over"]:
        written = f"{match['whole'] or ''} {match['over']}\u2044{match['under']}".strip()
        values = frozenset({int(match["whole"] or 0) + Fraction(int(match["over"]), int(match["under"]) or 1)})
        power = ""
    else:
        written, values = _read(match["run"], match["point"] or "", marks)
        power = match["power"] or ""
    factor = (-1 if sign else 1) * Fraction(10) ** int(power[1:] or 0)
    return sign + written + power, frozenset(factor * one for one in values)


def _written(text: str) -> str:
    """The text with digits of every script as 0 to 9 and each mark in one form; only numbers can be read of it."""
    return "".join(map(_seen, text.replace("{,}", ",").replace("\\,", _BLANK)))  # LaTeX's thousands


@lru_cache(maxsize=100_000)
def _seen(character: str) -> str:
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    category, how = unicodedata.category(character), tag(character)
    if category == "Sc":
        return "$"
    if category == "Cf" or category.startswith("M"):
        return ""
    if how in ("super", "sub", "square"):  # m², ㎡: no 2
        return " "
    seen = _SEEN_AS.get(character) or unicodedata.normalize("NFKC", character)
    return f" {seen}" if how == "fraction" else _SEEN_AS.get(seen, seen)


def _is_hyphen(text: str, place: int) -> bool:
    """Whether a "-" before a number joins it to what stands before: 10-31, COVID-19, --31; not 答案是-31."""
    before = text[place - 1] if place else " "
    return before.isdigit() or before in ")-" or before.lower() != before.upper()


def _read(run: str, point: str, marks: frozenset[tuple[str, str]]) -> tuple[str, frozenset[Fraction]]:
    """Digits with marks among them as they were written and read: whole, or what can be read of their end (12,5,31)."""
    if len(run) > LONGEST:
        return run, frozenset()
    if point and run.isdigit():
        return f".{run}", frozenset({Fraction(f"0.{run}")})
    for whole_run in (run, run.rpartition(_BLANK)[2]):
        pieces = re.split(r"([^0-9])", whole_run)
        if values := _values(pieces[::2], pieces[1::2], marks):
            return whole_run, values
    # A mark that parts numbers is none within the last one: 1,2,3.5 and 12.05.2020.
    begin = next(
        place
        for place in range(2, len(pieces), 2)
        if pieces[place - 1] not in pieces[place:] and _values(pieces[place::2], pieces[place + 1 :: 2], marks)
    )
    return "".join(pieces[begin:]), _values(pieces[begin::2], pieces[begin + 1 :: 2], marks)


def _values(parts: list[str], seps: list[str], marks: frozenset[tuple[str, str]]) -> frozenset[Fraction]:
    """What groups of digits between separators can be: nothing where they are not one number."""
    found = {}
    if seps and seps[-1] in (".", ",", "\u066b") and seps.count(seps[-1]) == 1 and _grouped(parts[:-1], seps[:-1]):
        found["decimal"] = Fraction(f"{''.join(parts[:-1])}.{parts[-1]}")
    if _grouped(parts, seps):
        found["group"] = Fraction("".join(parts))
    senses = {sense for mark, sense in marks if mark in seps}
    if len(found) == 2 and senses:
        found = {sense: value for sense, value in found.items() if sense in senses}
    return frozenset(found.values())


def _grouped(parts: list[str], seps: list[str]) -> bool:
    """Whether digits are one whole number: in groups of three, or as in India of two and at last of three."""
    if not seps:
        return True
    sizes = [len(part) for part in parts]
    if len(set(seps)) > 1 or seps[0] == "\u066b" or parts[0].startswith("0") or sizes[-1] != 3:
        return False
    inner, indian = sizes[1:-1], seps[0] in (",", "\u066c") and sizes[0] <= 2
    return sizes[0] <= 3 and (set(inner) <= {3} or (indian and set(inner) == {2}))


@lru_cache
def _marks(tag_: str) -> frozenset[tuple[str, str]]:
    """Marks between digits that a language uses, each with its sense, `decimal` or `group`."""
    try:
        code = language(tag_).code
        locales = [Locale.parse(one) for one in (code, *ELSEWHERE.get(code, ()))]
    except (ValueError, UnknownLocaleError):
        locales = [Locale.parse("en")]
    symbols = [locale.number_symbols["latn"] for locale in locales]
    return frozenset((_seen(one[sense]), sense) for one in symbols for sense in ("decimal", "group"))
