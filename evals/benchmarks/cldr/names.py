"""Names of countries, languages, currencies and units in several languages: the data of the embedded benchmarks and of
the embedded experts.

The names are Unicode's CLDR as `babel` ships it, so nothing is downloaded. A *concept* is a thing that has a name in
every language here; all that is asked or taught about one concept stays in one split. This module makes no items
(`evals.benchmarks.cldr.items`) and no training text.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from psomerge.evals.suites.splits import position_of, split_of

SALT = "cldr-names-635"
"""Of the suite `quickstart`: training and judging must see the same splits (a test compares the two). The number was
chosen by counts alone: with it every kind has its share in every split, within three concepts."""
SHARES: Mapping[str, float] = {"optimisation": 0.24, "validation": 0.14, "test": 0.36}
"""Share of the concepts in each split; the remainder is for training in any form."""

LANGUAGES: Mapping[str, str] = {"so": "Somali", "tk": "Turkmen", "eu": "Basque"}
"""Those asked about: three families, one script, at least 100 unit names each."""
HELPER_LANGUAGE = "de"
"""Never asked about: German pairs teach the base the sentence forms."""
KINDS: Mapping[str, str] = {"territory": "country", "language": "language", "currency": "currency", "unit": "unit"}
"""Word of each kind of concept, in the order of the choices."""
MOST: Mapping[str, int] = {"territory": 130, "language": 130, "currency": 100, "unit": 100}
"""Concepts of a kind, at most: a small model learns a few hundred well, not a thousand."""
LONGEST_NAME = 26
GIVEAWAY = re.compile(rf"\b({'|'.join(KINDS.values())})s?\b", re.IGNORECASE)
"""A kind word in a name ("thermal units") gives its answer away, and a base that has read one kind word gives it as the
answer to everything."""


@dataclass(frozen=True)
class Concept:
    """A territory, language, currency or unit by its code in CLDR, e.g. ("territory", "SO")."""

    kind: str
    code: str

    @property
    def group(self) -> str:
        """Identity of the concept in items and splits, e.g. "territory:SO"."""
        return f"{self.kind}:{self.code}"


@cache
def names(locale: str) -> Mapping[Concept, str]:
    """The names in one language that can be asked for without ambiguity, by concept.

    Kept: at most 26 characters, no bracket, comma, digit or kind word, and no second concept of the same name (in any
    case) in the language.

    Args:
        locale: CLDR code of the language, e.g. "so".
    """
    clean = {concept: name.replace("’", "'").strip() for concept, name in _all_names(locale).items() if name}
    short = {concept: name for concept, name in clean.items() if _usable(name)}
    uses = Counter(name.lower() for name in short.values())
    return {concept: name for concept, name in short.items() if uses[name.lower()] == 1}


def _usable(name: str) -> bool:
    return (
        0 < len(name) <= LONGEST_NAME and not any(c in "(," or c.isdigit() for c in name) and not GIVEAWAY.search(name)
    )


def _all_names(locale: str) -> dict[Concept, str]:
    from babel import Locale

    data = Locale.parse(locale)
    found = {Concept("territory", code): name for code, name in data.territories.items()}
    found |= {Concept("language", code): name for code, name in data.languages.items()}
    found |= {Concept("currency", code): name for code, name in data.currencies.items()}
    # Many languages have no display name of a unit, only the pattern that counts it ("{0} mitir"); babel has no public
    # way to that.
    patterns = data._data["unit_patterns"]
    for code, name in data.unit_display_names.items():
        counted = patterns.get(code, {}).get("long", {}).get("other", "").replace("{0}", "")
        found[Concept("unit", code)] = name.get("long") or counted
    return found


@cache
def concepts() -> tuple[Concept, ...]:
    """The concepts with a name in English and in every language asked about, at most `MOST` of each kind, drawn and
    ordered by hash."""
    complete = [concept for concept in names("en") if all(concept in names(language) for language in LANGUAGES)]
    return tuple(concept for kind, most in MOST.items() for concept in _drawn(complete, kind)[:most])


@cache
def spare_concepts(most: int) -> tuple[Concept, ...]:
    """At most `most` concepts of each kind with an English name that no benchmark asks about: more material for the
    skill expert."""
    rest = [concept for concept in names("en") if concept not in set(concepts())]
    return tuple(concept for kind in KINDS for concept in _drawn(rest, kind)[:most])


def _drawn(found: list[Concept], kind: str) -> list[Concept]:
    return sorted(
        (concept for concept in found if concept.kind == kind), key=lambda concept: position_of("draw", concept.group)
    )


@cache
def split_of_concept(concept: Concept) -> str | None:
    """Name of the concept's split, or None where it is free for training."""
    return split_of(SALT, concept.group, SHARES)
