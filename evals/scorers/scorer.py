"""What a scorer is: items and a model's outputs in, numbers in [0, 1] out."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Item:
    """One question of a benchmark, as a scorer sees it."""

    benchmark: str
    language: str
    """The suite's tag: `so`, `zh`, `tel_Telu`; `und` where it names none."""
    name: str
    """Identity of the item within its benchmark."""
    document: Mapping[str, Any]
    """Its row of the data set."""
    prompt: str
    """The text that the model saw."""
    reference: Any
    """The task's target: a text, the number of a choice, or a list of either."""


class Scorer(Protocol):
    """Whatever can score outputs."""

    def score(self, items: Sequence[Item], outputs: Sequence[str], memory: MutableMapping[str, str]) -> list[float]:
        """Returns a number in [0, 1] for each output.

        Args:
            items: (N,) what was asked.
            outputs: (N,) what the model answered.
            memory: what must not be asked for twice, such as a judge's replies; the caller keeps it in the run's
                journal.
        """
        ...


class ScorerError(ValueError):
    """Outputs that cannot be scored; the text names benchmark and item. The caller makes it a failed judgement: fitness
    null, worse than every other."""
