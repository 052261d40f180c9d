"""Whether some answer to an item can be right: one whose label none can match would lower every score alike, without a
word."""

import copy
from collections.abc import Sequence
from typing import Any

from psomerge.errors import ArtefactError
from psomerge.evals.harness.foreign import MOST, advice, excerpt, over_items
from psomerge.evals.harness.prepared import Prepared
from psomerge.evals.harness.scoring import by_item, metrics_of, value_of
from psomerge.evals.harness.tally import filters_of, is_item_by_item

LIKELY, UNLIKELY = -1.0, -1e9
"""Natural-log probabilities of a choice that wins and of one that loses, however long it is."""


def check_labels(one: Prepared) -> None:
    """Refuses items whose label no answer can match.

    Where choices are compared, each in turn is made the likeliest. Where the model writes, the label is the answer: it
    must be right as what the filter finds, and, as a task may want it in words that only it knows ("the answer is 7"),
    as what the model writes where that is right for another item. Of a corpus metric, of filters that look across items
    and of a `process_results` of a writing task's own it is only asked that there is a label, and no more of a scorer.

    Raises:
        ArtefactError: names the first such items, or those that the task's code cannot take.
    """
    import numpy as np

    if one.scorer is not None:
        return
    reasons: dict[int, str] = {}
    written: dict[int, str] = {}
    asked = by_item(one)

    def check(place: int) -> None:
        instances = asked[place]
        if one.task.OUTPUT_TYPE != "generate_until":
            if not _choosable(one, place, instances):
                reasons[place] = f"its label is {_label(one, place)!r} of {len(instances)} choices"
        elif reason := _unmatched(one, place):
            reasons[place] = reason
        elif _judged_alone(one) and (said := _unsaid(one, place, instances)):
            written[place] = said

    with np.errstate(all="ignore"):  # a choice of no letters is divided by
        over_items(one.items.names, one.items.docs, "score an answer to it", check)
    if len(written) < len(one.items.docs) - len(reasons):
        reasons |= written
    if reasons:
        place = min(reasons)
        names = [one.items.names[other] for other in sorted(reasons)[:MOST]]
        among = f" (the first {MOST} are named)" if len(reasons) > MOST else ""
        raise ArtefactError(
            f"no answer can match the label of {len(reasons)} of {len(one.items.docs)} items; of item "
            f"{one.items.names[place]} ({excerpt(one.items.docs[place])}) {reasons[place]}; {advice(*names)}{among}"
        )


def _judged_alone(one: Prepared) -> bool:
    return not one.corpus and not callable(one.task.config.process_results) and is_item_by_item(one)


def _label(one: Prepared, place: int) -> Any:
    doc = copy.deepcopy(one.items.docs[place])
    return one.task.doc_to_text(doc) if getattr(one.task, "multiple_input", 0) else one.task.doc_to_target(doc)


def _choosable(one: Prepared, place: int, instances: Sequence[Any]) -> bool:
    """Whether the metric is above 0 for one of the choices; equal ones are as likely as each other."""
    if one.corpus or not is_item_by_item(one):
        return True
    if callable(one.task.config.process_results):  # several choices may be asked for at once
        metrics_of(one, place, [(LIKELY, False) for _ in instances])
        return True
    label = _label(one, place)
    indices = label if isinstance(label, list) else [label]
    if all(index is None or (isinstance(index, int) and index < 0) for index in indices):
        return False  # the metrics that look the label up would count from the last choice
    choices = list(dict.fromkeys(instance.args for instance in instances))
    likely = [choices[index] for index in indices if isinstance(index, int) and 0 <= index < len(choices)]
    for winner in dict.fromkeys([*likely, *choices]):
        answers = [(LIKELY, True) if instance.args == winner else (UNLIKELY, False) for instance in instances]
        if _value(one, place, _filtered(one, instances, answers)) > 0:
            return True
    return False


def _unmatched(one: Prepared, place: int) -> str:
    """Why an item of a task that writes has no label that can be matched, even by what a filter finds; empty: it
    has."""
    references = _references(one, place)
    if callable(one.task.config.process_results):
        metrics_of(one, place, [references[0] if references else ""])  # it must take the item, whatever is answered
        return ""
    if not references:
        return f"its label is {_label(one, place)!r}"
    if not _judged_alone(one) or any(_value(one, place, [text]) > 0 for text in references):
        return ""
    return f"the answer {references[0]!r}, its own label, gets {one.benchmark.metric} 0"


def _unsaid(one: Prepared, place: int, instances: Sequence[Any]) -> str:
    """What becomes of an item's label when a model writes it, where that is not right; empty: it is."""
    from lm_eval.models.utils import postprocess_generated_text

    until = instances[0].args[1].get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    found: list[Any] = []
    for text in _references(one, place):
        found += _filtered(one, instances, [postprocess_generated_text(text, stops, None)])
        if _value(one, place, found[-1:]) > 0:
            return ""
    return (
        f"the answer {_references(one, place)[0]!r}, its own label, is {found[0]!r} once it is cut at {stops} and "
        f"filtered by {one.filter!r}, and gets {one.benchmark.metric} 0"
    )


def _references(one: Prepared, place: int) -> list[str]:
    """The texts that an item's answer is held against; those that say nothing are left out."""
    task, target = one.task, _label(one, place)
    if task.config.doc_to_choice is not None and isinstance(target, int):
        choices = task.doc_to_choice(copy.deepcopy(one.items.docs[place]))
        target = choices[target] if 0 <= target < len(choices) else None
    listed = target if isinstance(target, list | tuple) else [target]
    return [str(text) for text in listed if text is not None and text == text and str(text).strip()]


def _filtered(one: Prepared, instances: Sequence[Any], answers: Sequence[Any]) -> list[Any]:
    """Answers to an item's requests as its filter gives them to the metric."""
    try:
        for instance, answer in zip(instances, answers, strict=True):
            instance.resps = [answer] * (instance.repeats or 1)
        for ensemble in filters_of(one):
            ensemble.apply(list(instances))
        return [instance.filtered_resps[one.filter] for instance in instances]
    finally:
        for instance in instances:
            instance.resps, instance.filtered_resps = [], {}


def _value(one: Prepared, place: int, filtered: Sequence[Any]) -> float:
    return value_of(metrics_of(one, place, filtered), one.benchmark, one.items.names[place])
