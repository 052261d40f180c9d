"""A model's answers to an evaluation set, scored item by item as they come, and the most that each benchmark can still
reach.

An item is scored once, when all its requests are answered, by the harness's own filters and metric; its value is the
float that `EvaluationSet.score` finds. What is a matter of many items, a corpus metric or a filter of the user's that
may look across items, is scored when the whole benchmark is answered; what a scorer scores, never here: a judge asked
beforehand would be paid for models that are stopped.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psomerge.evals.engines.engine import Answers, Batch
from psomerge.evals.harness.foreign import one_line
from psomerge.evals.harness.prepared import FailedBenchmark, Prepared
from psomerge.evals.harness.scoring import answer_of, examine, metrics_of, value_of

ITEM_BY_ITEM = (
    "lm_eval.filters.extraction",
    "lm_eval.filters.selection",
    "lm_eval.filters.transformation",
    "psomerge.evals.harness.answers",
)
"""Modules of filters that look at one item at a time; those of the user's own look at whatever they like."""

Drawn = Sequence[Sequence[Sequence[tuple[int, int]]]]
"""Strata, in each its draws, in each its items by numbers of benchmark and item."""


@dataclass(frozen=True)
class Unit:
    """What is scored at once."""

    ready: int
    """Requests, counted from the first of the batch (log-likelihoods, then generations), that must be answered
    before."""
    benchmark: int
    item: int | None
    """None: all items of the benchmark."""


class Tally:
    """The scores of one model at a time; `begin` forgets it."""

    def __init__(self, batch: Batch, prepared: Sequence[Prepared], lock: threading.Lock) -> None:
        """Sorts items by when they can be scored.

        Args:
            batch: that is answered.
            prepared: its benchmarks.
            lock: held while answers are in the harness's instances.
        """
        self._batch, self._prepared, self._lock = batch, tuple(prepared), lock
        self._asked = [_by_item(one) for one in self._prepared]
        self._units = sorted(
            (unit for place in range(len(self._prepared)) for unit in self._units_of(place)),
            key=lambda unit: unit.ready,
        )
        self.begin()

    @property
    def requests(self) -> int:
        """How many there are in all."""
        return len(self._batch.loglikelihood) + len(self._batch.generation)

    def begin(self) -> None:
        """Starts over with nothing answered."""
        self._values: list[list[float | None]] = [[None] * len(one.items.docs) for one in self._prepared]
        self._whole: dict[int, float] = {}
        self._done = 0

    def add(self, answers: Answers) -> None:
        """Scores what has become ready.

        Args:
            answers: to the first requests of the batch; those of earlier calls and more.

        Raises:
            FailedBenchmark: the model cannot be scored.
        """
        reached = len(answers.loglikelihood) + len(answers.generation)
        begin = self._done
        while self._done < len(self._units) and self._units[self._done].ready <= reached:
            self._done += 1
        fresh = self._units[begin : self._done]
        with self._lock:  # the harness writes answers into its own instances
            for place in dict.fromkeys(unit.benchmark for unit in fresh):
                if items := [unit.item for unit in fresh if unit.benchmark == place and unit.item is not None]:
                    for item, value in zip(items, self._score(place, items, answers), strict=True):
                        self._values[place][item] = value
                else:
                    self._whole[place] = examine(self._prepared[place], self._batch, answers, {})[0].score

    def most(self) -> dict[str, float]:
        """Returns by benchmark the score if all that is not scored yet is right; once all is, the score itself, to the
        last bit."""
        found = {}
        for place, (one, values) in enumerate(zip(self._prepared, self._values, strict=True)):
            # Summed as BenchmarkScore sums: float addition in one order is monotone, so what is still to come can only
            # make it less.
            found[one.benchmark.name] = self._whole.get(
                place, sum(1.0 if value is None else value for value in values) / len(values)
            )
        return found

    def value(self, benchmark: int, item: int) -> float | None:
        """Returns an item's value, None while it is not scored; of a benchmark that is scored as a whole no item ever
        is."""
        return self._values[benchmark][item]

    def drawn(self, key: Callable[[str], float]) -> Drawn:
        """Returns the items that are scored one by one: asked about by log-likelihoods, then by generation, each
        ordered by a key of their names.

        Items of one name are the same document in several benchmarks, and drawn together.
        """
        strata: tuple[dict[str, list[tuple[int, int]]], ...] = ({}, {})
        named: dict[str, list[Unit]] = {}
        for unit in self._units:
            if unit.item is not None:
                named.setdefault(self._prepared[unit.benchmark].items.names[unit.item], []).append(unit)
        for name in sorted(named, key=key):
            written = max(unit.ready for unit in named[name]) > len(self._batch.loglikelihood)
            strata[written][name] = [(unit.benchmark, unit.item or 0) for unit in named[name]]
        return [list(stratum.values()) for stratum in strata]

    def least_most(self, reached: int) -> dict[str, float]:
        """Returns what `most` would be if so many requests were answered, all wrong: no model is lower by then."""
        counts = {place: len(one.items.docs) for place, one in enumerate(self._prepared)}
        wrong = dict.fromkeys(counts, 0)
        for unit in self._units:
            if unit.ready <= reached:
                wrong[unit.benchmark] += 1 if unit.item is not None else counts[unit.benchmark]
        return {
            one.benchmark.name: (counts[place] - wrong[place]) / counts[place]
            for place, one in enumerate(self._prepared)
        }

    def _units_of(self, place: int) -> list[Unit]:
        one = self._prepared[place]
        if one.scorer is not None:
            return []
        before = len(self._batch.loglikelihood)
        ready = [
            max(at + before * (instance.request_type == "generate_until") for instance, at in asked) + 1
            for asked in self._asked[place]
        ]
        if one.corpus or not is_item_by_item(one):
            return [Unit(max(ready), place, None)]
        return [Unit(when, place, item) for item, when in enumerate(ready)]

    def _score(self, place: int, items: Sequence[int], answers: Answers) -> list[float]:
        """The values of some items of a benchmark, as `examine` finds them."""
        one, name = self._prepared[place], self._prepared[place].benchmark.name
        chosen = [pair for item in items for pair in self._asked[place][item]]
        try:
            for instance, at in chosen:
                instance.resps = [answer_of(instance, at, self._batch, answers, one.benchmark)] * (
                    instance.repeats or 1
                )
            for ensemble in filters_of(one):
                ensemble.apply([instance for instance, _ in chosen])
            values = []
            for item in items:
                filtered = [instance.filtered_resps[one.filter] for instance, _ in self._asked[place][item]]
                values.append(value_of(metrics_of(one, item, filtered), one.benchmark, one.items.names[item]))
        except FailedBenchmark:
            raise
        except Exception as error:
            # As in `examine`: what fails on an unforeseen answer fails the judgement, not the run.
            raise FailedBenchmark(f"{name}: {type(error).__name__}: {one_line(error)}") from error
        finally:
            for instance, _ in chosen:
                instance.resps, instance.filtered_resps = [], {}
        return values


def _by_item(one: Prepared) -> list[list[tuple[Any, int]]]:
    """The instances of each item in the harness's order, each with the place of its answer."""
    found: Mapping[int, list[tuple[Any, int]]] = {item: [] for item in range(len(one.items.docs))}
    for instance, place in zip(one.task.instances, one.asked, strict=True):
        found[instance.doc_id].append((instance, place))
    return [sorted(asked, key=lambda pair: pair[0].idx) for asked in found.values()]


def filters_of(one: Prepared) -> list[Any]:
    """Returns the ensembles of the task's filters that make this benchmark's values."""
    return [ensemble for ensemble in one.task._filters if ensemble.name == one.filter]


def is_item_by_item(one: Prepared) -> bool:
    """Returns whether none of the task's filters may look across items."""
    # Each step of an ensemble is a `functools.partial` of the filter's class.
    return all(
        getattr(step, "func", step).__module__ in ITEM_BY_ITEM
        for ensemble in filters_of(one)
        for step in ensemble.filters
    )
