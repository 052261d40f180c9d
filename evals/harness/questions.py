"""What a document asks, so that one question is known under several names: its prompt without examples, whatever its
Unicode form, case and blanks, and its choices.

Two documents ask the same where their prompts are one and they share a choice, or one of them has no choices: under an
instruction alone, "Pick the right one", other choices are another question.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from unittest.mock import patch

GENERAL = 10
"""Documents to a prompt from which on prompts are taken to be general ("Which is right?"): what is asked is then told
by the choices too."""
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a document asks."""

    text: int
    """Number of its prompt; where that is empty, or prompts are general, of prompt and choices."""
    choices: tuple[int, ...] = ()
    """Their numbers, where the prompt alone does not tell them."""


def asking(task: Any) -> Callable[[Mapping[str, Any], bool], Asked | None]:
    """Returns the function that gives what a document of a task asks, None where it asks nothing; it is told whether
    the task's prompts are general.

    A document that the task's own code cannot take asks nothing: if it is chosen, making its prompt says why.
    """

    def asked(doc: Mapping[str, Any], general: bool) -> Asked | None:
        try:
            text = task.doc_to_text(doc)
            choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else ()
        except Exception:  # whatever a task's template or function may raise
            return None
        listed = tuple(map(str, choices)) if isinstance(choices, list | tuple) else ()
        normal = _normal(str(text))
        if isinstance(text, str) and normal and not general:
            return Asked(_number(normal), _numbers(listed))
        told = "\n".join([normal, *sorted(map(_normal, listed))]).strip()
        return Asked(_number(told)) if told else None

    return asked


def is_general(asked: Sequence[Asked | None]) -> bool:
    """Returns whether the questions of a task's documents, by prompts alone, are too few to be what is asked."""
    known = {one and one.text for one in asked}
    return len(asked) > GENERAL * len(known) or len(known) == 1 < len(asked)


def numbered(asked: Sequence[Asked | None]) -> list[int | None]:
    """Returns a number for each of what documents ask, None where they ask nothing: one for all that ask the same, and
    for what asks the same as these."""
    parent = list(range(len(asked)))

    def root(place: int) -> int:
        while (above := parent[place]) != place:
            parent[place] = place = parent[above]
        return place

    first: dict[int | tuple[int, int], int] = {}
    for place, one in enumerate(asked):
        if one is not None:
            for key in ((one.text, choice) for choice in one.choices) if one.choices else (one.text,):
                parent[root(place)] = root(first.setdefault(key, place))
    for place, one in enumerate(asked):
        if one is not None and one.choices and one.text in first:
            parent[root(place)] = root(first[one.text])
    return [None if one is None else root(place) for place, one in enumerate(asked)]


@contextmanager
def compiled_once() -> Iterator[None]:
    """Keeps the harness, in the block, from compiling a task's template anew for each document, a millisecond each."""
    from lm_eval import utils

    compiled = cache(utils.env.from_string)

    def apply_template(template: str, doc: Mapping[str, Any]) -> str:
        return compiled(template).render(**doc)

    with patch.object(utils, "apply_template", apply_template):
        yield


def _number(normal: str) -> int:
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest())


@lru_cache(maxsize=1000)
def _numbers(choices: tuple[str, ...]) -> tuple[int, ...]:
    """Of choices; those of many documents ("yes", "no") are in memory once."""
    return tuple(_number(_normal(one)) for one in choices)


def _normal(text: str) -> str:
    """A text in one form, case and kind of blanks."""
    return " ".join(_UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
