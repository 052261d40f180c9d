"""The number that an answer ends with, in the digits and with the marks of its language.

Digits of every script are read (৩১, ３１, ٣١), signs, currencies, thousands (1,000; 1.000; 1 000; 1'000; 1_000;
1,00,000; ١٬٠٠٠), decimals (3.5; 3,5; ٣٫٥), fractions (½; 1/2; 3 1/2; LaTeX's \\frac{1}{2}) and powers of ten (3e2).
What can be read in one way only is read so in every language. One mark before three digits is thousands or decimals as
CLDR has it for the language: 1.000 is a thousand in German and one in English; a mark that the language uses for
neither, or its countries for both (Spanish), may be either. A blank as it is typed parts thousands where CLDR has
blanks for the language, and in every other where the last group begins with 0 (12 000; not 12 345, which may be two
numbers). A full-width comma (，) parts thousands or numbers, never decimals. Three numbers with slashes are a date, no
fraction. Numerals that are no decimal digits (三十一, ፴፩) and numbers in words are not read.
"""

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from babel import Locale, UnknownLocaleError

from psomerge.evals.writing.digits import BLANK, LONGEST, RUN, legible, seen
from psomerge.evals.writing.language_tags import language

ELSEWHERE = {"es": ("es_MX",)}
"""Locales of a language whose countries part thousands and decimals by the same marks the other way round."""
_NUMBER = re.compile(
    r"(?P<sign>[-+])?(?:\\?\$[ \u2009]?(?P<after>[-+])?)?"
    rf"(?:(?:(?P<whole>[0-9]{{1,9}}) )?(?P<over>{RUN})\u2044(?P<under>[0-9]+)"
    rf"|(?P<point>(?<![\w.])\.)?(?P<run>{RUN})(?P<power>[eE][-+]?[0-9]{{1,3}}(?!\w))?)"
)
_TYPED_THOUSANDS = re.compile(
    r"(?<![0-9])(?<![0-9][.,'\u066b\u066c\u2009\uff0c])[1-9][0-9]{0,2}(?: [0-9]{3}){0,9} 0[0-9]{2}(?![0-9])"
)
_UNPARTED = "BOPOMOFO|CJK|HIRAGANA|IDEOGRAPHIC|KATAKANA|KHMER|LAO|MYANMAR|NEW TAI LUE|TAI|THAI|TIBETAN|YI"
"""Begins Unicode's names for letters of scripts that put no blank between words."""


def same(prediction: str, reference: str, language: str = "en") -> bool:
    """Returns whether the last number of a prediction is that of the reference, as numbers.

    Args:
        prediction: a model's answer.
        reference: the right one, or what follows the last `####` of it; besides as a program writes it (`1.000` is 1).
        language: a tag; of one that CLDR does not know, English marks are read.

    Raises:
        ValueError: the reference has no number, so that no answer could be right, or several (11:30), of which the last
            alone would decide.
    """
    _, mark, last = reference.rpartition("####")
    right = _the_number(last if mark else reference, language)
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
    written = legible(text.strip()).rstrip(". ")
    match = _NUMBER.fullmatch(written)
    return next(iter(_value(match, written, _marks("en"))[1]), None) if match else None


def _the_number(reference: str, tag_: str) -> frozenset[Fraction]:
    """What the one number of a reference can be."""
    marks = _marks(tag_)
    written = _parted(legible(reference), marks)
    found = [(match, *_value(match, written, marks)) for match in _NUMBER.finditer(written)]
    right = found[-1][2] if found else frozenset[Fraction]()
    if re.fullmatch(r"[-+]?[0-9]+(?:\.[0-9]+)?", reference.strip()):
        right |= {Fraction(reference.strip())}
    if not right:
        raise ValueError(f"expected a reference with a number, found {reference!r:.80}")
    if len(found) > 1 or (found[0][0]["over"] or found[0][0]["run"]) not in found[0][1]:
        raise ValueError(
            f"expected a reference with one number, found {reference!r:.80} with several; give the one that is the "
            "answer, or the answer after ####"
        )
    return right


def _last(text: str, tag_: str) -> tuple[str, frozenset[Fraction]] | None:
    """The last number of a text as written and as it can be read."""
    marks = _marks(tag_)
    written = _parted(legible(text), marks)
    *_, last = [None, *_NUMBER.finditer(written)]
    return _value(last, written, marks) if last else None


def _parted(written: str, marks: frozenset[tuple[str, str]]) -> str:
    """The text with the blanks that part thousands, as they are typed, as such."""
    if (BLANK, "group") in marks:
        written = re.sub(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]))", BLANK, written)
    return _TYPED_THOUSANDS.sub(lambda match: match[0].replace(" ", BLANK), written)


def _value(match: re.Match[str], text: str, marks: frozenset[tuple[str, str]]) -> tuple[str, frozenset[Fraction]]:
    """A number as written and as it can be read."""
    before, after = match["sign"] or "", match["after"] or ""
    sign = "-" if after == "-" or (before == "-" and not _is_hyphen(text, match.start())) else ""
    power = match["power"] or ""
    if match["over"]:
        over, read = _read(match["over"], "", marks)
        parts = frozenset(one / int(match["under"]) for one in read)
        # 3 1/2, but not 5 12/4: that is a number before a fraction.
        whole_ = match["whole"] if all(part < 1 for part in parts) else None
        written = f"{whole_ or ''} {over}\u2044{match['under']}".strip()
        values = frozenset(int(whole_ or 0) + part for part in parts)
    else:
        written, values = _read(match["run"], match["point"] or "", marks)
    factor = (-1 if sign else 1) * Fraction(10) ** int(power[1:] or 0)
    return sign + written + power, frozenset(factor * one for one in values)


def _is_hyphen(text: str, place: int) -> bool:
    """Whether a "-" before a number joins it to what stands before: 10-31, COVID-19, উত্তর-৫, --31.

    After a letter it does, but in scripts that put no blank between words: 答案是-31 says that the answer is -31.
    """
    before = text[place - 1] if place else " "
    if before.isalpha():
        return not re.match(rf"(?:{_UNPARTED})[ -]", unicodedata.name(before, ""))
    return before.isdigit() or before in ")-"


def _read(run: str, point: str, marks: frozenset[tuple[str, str]]) -> tuple[str, frozenset[Fraction]]:
    """Digits with marks among them as they were written and read: whole, or what can be read of their end (12,5,31)."""
    if len(run) > LONGEST:
        return run, frozenset()
    if point and run.isdigit():
        return f".{run}", frozenset({Fraction(f"0.{run}")})
    for whole_run in (run, run.rpartition(BLANK)[2]):
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
    return frozenset((seen(one[sense]), sense) for one in symbols for sense in ("decimal", "group"))
