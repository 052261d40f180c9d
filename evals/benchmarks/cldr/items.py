"""Items of the embedded benchmarks, from CLDR names, and the data sets that `evals/benchmarks/cldr/*.yaml` give to
lm-evaluation-harness.

    pick  "Germany in Basque is"    which of four names of one kind    knowing the language
    kind  "Q: what is Alemania? A:" which of four kind words           the skill of answering, in any language
    say   "Germany in Basque is"    the name, written freely           same prompt; checks generation, counts in no
    fitness

An item says which concept it is about (`concept`): items are split by it. The data sets hold the items of all splits;
the suite picks.
"""

import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from psomerge.evals.benchmarks.cldr.names import KINDS, LANGUAGES, Concept, concepts, names

if TYPE_CHECKING:
    from datasets import DatasetDict

ASKED = "{english} in {language} is"
"""The form of the question of `pick` and `say`. Training completes it by " {name}." for training concepts only."""
QUESTION = "Q: what is {name}? A:"
"""The form of the question of `kind`."""


@dataclass(frozen=True)
class CldrItem:
    """One question with its choices, as written, without the blank that parts prompt and choice."""

    id: str
    concept: str
    language: str
    prompt: str
    choices: tuple[str, ...]
    gold: int
    """Index of the right choice."""


def pick_items(language: str) -> list[CldrItem]:
    """Items of `pick`: four names in `language` of one kind, in a drawn order. Names equal to the English ones (in any
    case) are left out."""
    return [_pick_item(concept, language) for concept in _translated(language)]


def kind_items(language: str) -> list[CldrItem]:
    """Items of `kind`: names in `language` ("en" too), the four kind words. Other languages' names equal to the English
    ones are left out."""
    found = concepts() if language == "en" else _translated(language)
    words, kinds = tuple(KINDS.values()), list(KINDS)
    return [
        CldrItem(
            id=f"kind-{language}:{concept.group}",
            concept=concept.group,
            language=language,
            prompt=QUESTION.format(name=names(language)[concept]),
            choices=words,
            gold=kinds.index(concept.kind),
        )
        for concept in found
    ]


def _translated(language: str) -> list[Concept]:
    english, local = names("en"), names(language)
    return [concept for concept in concepts() if english[concept].lower() != local[concept].lower()]


def _pick_item(concept: Concept, language: str) -> CldrItem:
    local = names(language)
    others = sorted(
        (other for other in concepts() if other.kind == concept.kind and other != concept), key=lambda other: other.code
    )
    draw = random.Random(f"choices|{language}|{concept.group}")
    choices = [local[other] for other in draw.sample(others, 3)] + [local[concept]]
    draw.shuffle(choices)
    return CldrItem(
        id=f"pick-{language}:{concept.group}",
        concept=concept.group,
        language=language,
        prompt=ASKED.format(english=names("en")[concept], language=LANGUAGES[language]),
        # The full stop ends the name: without it a name that begins another one would be preferred.
        choices=tuple(f"{choice}." for choice in choices),
        gold=choices.index(local[concept]),
    )


def pick_dataset(*, language: str, **_: object) -> "DatasetDict":
    """Data set of `pick` and `say` in one language, as lm-evaluation-harness calls for it (it passes the task's
    metadata too)."""
    return _dataset(pick_items(language))


def kind_dataset(*, language: str, **_: object) -> "DatasetDict":
    """Data set of `kind` in one language."""
    return _dataset(kind_items(language))


def _dataset(items: list[CldrItem]) -> "DatasetDict":
    from datasets import Dataset, DatasetDict

    return DatasetDict({"test": Dataset.from_list([asdict(item) | {"choices": list(item.choices)} for item in items])})
