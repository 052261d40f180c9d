"""What a suite's language tag says, whatever standard it follows: one code for the language, and the scripts that it is
written in.

BCP 47 (`so`, `zh-Hant`), Flores and Belebele codes (`tel_Telu`, `zho_Hans`) and ISO 639-3 (`azj`, `arb`) all come to
the same code. The aliases are CLDR's as `babel` ships them; where a benchmark names a variety that CLDR keeps apart, a
short table adds it to its macrolanguage.
"""

import re
from dataclasses import dataclass

from babel.core import get_global

VARIETIES = {
    **dict.fromkeys(("acm", "acq", "aeb", "ajp", "apc", "apd", "arq", "ars", "ary", "arz", "ayl"), "ar"),
    **dict.fromkeys(("pbt", "pbu", "pst"), "ps"),
    **dict.fromkeys(("quh", "quy", "quz", "qvi"), "qu"),
    **dict.fromkeys(("ffm", "fuf", "fuv"), "ff"),
    "gug": "gn",
    "hbo": "he",
    "mvf": "mn",
    "nb": "no",
    "prs": "fa",
    "sh": "sr",
    "zlm": "ms",
}
"""Of ISO 639-3 codes that CLDR does not fold: the macrolanguage, by whose name identifiers call them. An Arabic dialect
is Arabic here."""

WRITTEN_TOO = {"bs": ("Cyrl",), "crh": ("Latn",), "sr": ("Latn",), "uz": ("Cyrl",), "zh": ("Hant",), "yue": ("Hans",)}
"""Second scripts of languages that identifiers know in both; every other language has its likely script (CLDR's) alone,
unless a tag names another."""

CHARACTERS = {
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Hang": ("Hang", "Hani"),
}
"""Unicode scripts of the characters of a script that is not simply one of them."""


@dataclass(frozen=True)
class Language:
    """A language tag, read."""

    code: str
    """ISO 639-1 where there is one, else 639-3, of the macrolanguage."""
    scripts: tuple[str, ...]
    """ISO 15924: the one that the tag names, else those that the language is written in; none if unknown."""

    @property
    def characters(self) -> frozenset[str]:
        """Unicode scripts that its letters may have."""
        return frozenset(part for script in self.scripts for part in CHARACTERS.get(script, (script,)))


def language(tag: str) -> Language:
    """Returns what a tag says.

    Args:
        tag: BCP 47, Flores or ISO 639 code of a language, with or without script and region, parted by "-" or "_".

    Raises:
        ValueError: no language tag.

    Source: CLDR's supplemental aliases and likely subtags.
    """
    code, *rest = re.split(r"[-_]", tag)
    if not re.fullmatch(r"[A-Za-z]{2,3}", code) or code == "und":
        raise ValueError(f"expected a language tag such as so, zh-Hant or tel_Telu, found {tag!r}")
    code = code.lower()
    # An alias may name a script besides (hbs: sr_Latn).
    code = VARIETIES.get(code) or get_global("language_aliases").get(code, code).partition("_")[0]
    code = VARIETIES.get(code, code)
    named = tuple(part.title() for part in rest if re.fullmatch(r"[A-Za-z]{4}", part))
    if named:
        return Language(code, named[:1])
    likely = str(get_global("likely_subtags").get(code, "")).split("_")
    return Language(code, (likely[1], *WRITTEN_TOO.get(code, ())) if len(likely) > 1 else ())
