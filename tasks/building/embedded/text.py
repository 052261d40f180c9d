"""Training text of the embedded models, line by line, without end and seeded.

What is asked in the benchmarks is taught, the question is not: a concept of the optimisation, validation or test split
stands in a language expert's text only in two forms that are never asked, and not at all in the skill expert's
questions. German pairs, which nothing asks for, stand in all forms.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from psomerge.evals.benchmarks.cldr.items import ASKED, QUESTION
from psomerge.evals.benchmarks.cldr.names import (
    HELPER_LANGUAGE,
    KINDS,
    LANGUAGES,
    Concept,
    concepts,
    names,
    spare_concepts,
    split_of_concept,
)

ASKED_FORM = ASKED + " {name}.\n"
OTHER_FORMS = ("{language}: {english} = {name}.\n", "{name} ({language}): {english}.\n")
SPARE = 60
"""Concepts of each kind that no benchmark uses, in the skill expert's questions."""


@dataclass(frozen=True)
class TextLine:
    """A line of text, ended by "\\n"; `question` is the part before it that counts less in the loss ("" in most
    lines)."""

    text: str
    question: str = ""


def base_lines(address: str) -> Iterator[TextLine]:
    """Yields lines of the base's text: 25 % lists of English names, 20 % lists of names in the languages asked about,
    50 % German pairs.

    The other 5 % are the skill's questions with an answer drawn blindly: the base learns that one of four words
    follows, each as likely, and nothing of which. Without them chance decides which word the base prefers, and an
    average of experts gives that one word to every question.

    Args:
        address: what the draw belongs to, e.g. "0|base": equal addresses give equal lines.
    """
    draw = random.Random(address)
    pairs, asked = [concept for concept in concepts() if concept in names(HELPER_LANGUAGE)], _free_concepts()
    while True:
        position = draw.random()
        if position < 0.05:
            yield TextLine(_question(draw.choice(asked)) + _answer(draw.choice(list(KINDS))))
        elif position < 0.3:
            yield _list_of_names(draw, "en")
        elif position < 0.5:
            yield _list_of_names(draw, draw.choice(list(LANGUAGES)))
        else:
            yield _pair(draw, HELPER_LANGUAGE, draw.choice(pairs), (ASKED_FORM, *OTHER_FORMS))


def language_lines(language: str, address: str) -> Iterator[TextLine]:
    """Yields lines of one language's text: 90 % pairs of an English name and the language's, 10 % lists of the
    language's names."""
    draw = random.Random(address)
    while True:
        if draw.random() < 0.1:
            yield _list_of_names(draw, language)
        else:
            concept = draw.choice(concepts())
            free = split_of_concept(concept) is None
            yield _pair(draw, language, concept, (ASKED_FORM, *OTHER_FORMS) if free else OTHER_FORMS)


def skill_lines(address: str) -> Iterator[TextLine]:
    """Yields English questions with answers: which of the four kinds a name belongs to, on concepts that no split asks
    about."""
    draw = random.Random(address)
    by_kind = {kind: [concept for concept in _free_concepts() if concept.kind == kind] for kind in KINDS}
    while True:
        kind = draw.choice(list(KINDS))
        yield TextLine(_answer(kind), question=_question(draw.choice(by_kind[kind])))


@cache
def _free_concepts() -> tuple[Concept, ...]:
    """Concepts that may stand in a question: those that no split asks about."""
    return (*(concept for concept in concepts() if split_of_concept(concept) is None), *spare_concepts(SPARE))


def _question(concept: Concept) -> str:
    return QUESTION.format(name=names("en")[concept])


def _answer(kind: str) -> str:
    return f" {KINDS[kind]}.\n"


def _pair(draw: random.Random, locale: str, concept: Concept, forms: Sequence[str]) -> TextLine:
    language = {**LANGUAGES, HELPER_LANGUAGE: "German"}[locale]
    return TextLine(
        draw.choice(forms).format(english=names("en")[concept], language=language, name=names(locale)[concept])
    )


def _list_of_names(draw: random.Random, locale: str) -> TextLine:
    listed = draw.sample(_of_kind(draw.choice(list(KINDS))), 5)
    return TextLine(", ".join(names(locale)[concept] for concept in listed) + ".\n")


@cache
def _of_kind(kind: str) -> tuple[Concept, ...]:
    return tuple(concept for concept in concepts() if concept.kind == kind)
