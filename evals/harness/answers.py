"""Answers compared by what they say: numbers in the digits of their language, texts in whatever Unicode form.

In the harness's own terms, for any task's YAML: the filter `last_number` and the metric `same_number`, each with
`language` (a tag; English without it); and its `exact_match`, which sees both sides in one form
(`evals.writing.forms.plain`). What the harness itself would say of the same answers is a benchmark's `beside`.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from psomerge.evals.writing import forms, numbers

NONE = "[invalid]"
"""The harness's word for an answer in which nothing is found."""
COMPARED = ("exact_match", "same_number")
"""Metrics of this module."""


class LastNumber:
    """The filter `last_number`: the number that an answer ends with, as it is written there, in digits 0 to 9."""

    def __init__(self, language: str = "en") -> None:
        """Keeps the language's tag."""
        self._language = language

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Any]) -> list[list[str]]:
        """Returns of each item's answers the number, or NONE."""
        return [[numbers.last_number(answer, self._language) or NONE for answer in given] for given in resps]


def register() -> None:
    """Makes `last_number` a filter and `same_number` a metric of the harness; more than once does no more."""
    import lm_eval.api.metrics  # noqa: F401  (the harness imports its own only into an empty registry)
    from lm_eval.api import registry

    registry.register_filter("last_number")(LastNumber)
    registry.register_metric(
        metric="same_number", higher_is_better=True, output_type="generate_until", aggregation="mean"
    )(same_number)


def same_number(*, predictions: Sequence[str], references: Sequence[Any], language: str = "en") -> float:
    """Returns 1.0 if the last number of the answer is the reference's, else 0.0; arguments as the harness gives them,
    one of each. Raises ValueError where the reference has no number, or several."""
    return float(numbers.same(predictions[0], str(references[0]), language))


def exact_match(*, predictions: Sequence[Any], references: Sequence[Any], **settings: Any) -> dict[str, Any]:
    """Returns the harness's `exact_match`, its settings included, of texts in one form."""
    from lm_eval.api.metrics import exact_match_fn

    sides = ([forms.plain(one) if isinstance(one, str) else one for one in side] for side in (predictions, references))
    return exact_match_fn(**dict(zip(("predictions", "references"), sides, strict=True)), **settings)


def in_one_form(task: Any) -> None:
    """Makes a task's `exact_match`, where it is the harness's, that of this module."""
    from lm_eval.api.metrics import exact_match_fn

    metrics = task._metric_fn_list
    task._metric_fn_list = {name: exact_match if one is exact_match_fn else one for name, one in metrics.items()}


def as_the_harness(task: Any) -> Any:
    """Returns a copy of a task that compares as the harness does."""
    from lm_eval.api.metrics import exact_match_fn

    theirs = copy.copy(task)
    theirs._metric_fn_list = {
        name: exact_match_fn if one is exact_match else one for name, one in task._metric_fn_list.items()
    }
    return theirs


def signature(metric: str) -> list[str]:
    """Returns what a metric's values depend on besides the task's configuration, as JSON data."""
    return [*forms.signature(), "numbers 2"] if metric in COMPARED else []
