"""From a model's answers to a benchmark's score, item by item: filters and metrics are the task's own, or a
scorer's."""

import copy
import json
import logging
import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from psomerge.errors import PsomergeError
from psomerge.evals.engines.engine import Answers, Batch
from psomerge.evals.harness.answers import as_the_harness
from psomerge.evals.harness.corpus import rows_of
from psomerge.evals.harness.foreign import one_line
from psomerge.evals.harness.prepared import FailedBenchmark, Prepared
from psomerge.evals.harness.thinking import answer_after, marks_of
from psomerge.evals.metrics import corpus
from psomerge.evals.scorers import Item
from psomerge.evals.suites.scores import BenchmarkScore, Example
from psomerge.evals.suites.suite import Benchmark

logger = logging.getLogger(__name__)
WRITTEN = "generate_until"
"""What the harness calls a request that the model answers in writing."""


def examine(
    one: Prepared, batch: Batch, answers: Answers, memory: MutableMapping[str, str]
) -> tuple[BenchmarkScore, list[Example]]:
    """Returns a model's score on one benchmark, and its items. Of the instances nothing stays that the next model could
    inherit. Raises FailedBenchmark where an answer is missing or a metric fails."""
    benchmark, task = one.benchmark, one.task
    try:
        for instance, place in zip(task.instances, one.asked, strict=True):
            instance.resps = [answer_of(instance, place, batch, answers, benchmark)] * (instance.repeats or 1)
        task.apply_filters()
        asked = by_item(one)
        _tell_unfinished(one, batch, answers)
        values, rows = _numbers(one, asked, memory)
        others = _beside(one, asked)
        examples = [
            replace(_example(one, place, instances, values[place]), beside=others[place])
            for place, instances in enumerate(asked)
        ]
    except (FailedBenchmark, PsomergeError):
        raise
    except Exception as error:
        # A metric or filter that fails on an unforeseen answer fails the judgement, not the run.
        raise FailedBenchmark(f"{benchmark.name}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}
    return record(one, values, rows), examples


def by_item(one: Prepared) -> list[list[Any]]:
    """Returns the requests of each item, in the harness's order."""
    by_doc: dict[int, list[Any]] = {}
    for instance in one.task.instances:
        by_doc.setdefault(instance.doc_id, []).append(instance)
    return [sorted(by_doc[place], key=lambda instance: instance.idx) for place in range(len(one.items.docs))]


def _tell_unfinished(one: Prepared, batch: Batch, answers: Answers) -> None:
    """Says how many thoughts have no end: their items have no answer, and are as wrong as can be."""
    if marks := marks_of(one.benchmark.prompting):
        asked = [pair for pair in zip(one.task.instances, one.asked, strict=True) if pair[0].request_type == WRITTEN]
        texts = [(answers.generation[place], instance.args[0]) for instance, place in asked]
        if count := sum(answer_after(text, prompt, marks) is None for text, prompt in texts):
            logger.warning(
                "%s: %d of %d thoughts have no end (%s) and count as no answer; raise max_gen_toks in the benchmark's "
                "`config: {generation_kwargs: ...}` if many have none",
                one.benchmark.name,
                count,
                len(texts),
                marks.end,
            )


def record(one: Prepared, values: Sequence[float], rows: Sequence[Sequence[float]]) -> BenchmarkScore:
    """Returns the score that values, and rows of statistics of a corpus metric, make."""
    asked, names, groups = one.benchmark, one.items.names, one.items.groups
    statistics = tuple(tuple(row) for row in rows)
    return BenchmarkScore(
        asked.name, asked.language, asked.metric, asked.weight, names, groups, tuple(values), one.corpus, statistics
    )


def _numbers(
    one: Prepared, asked: Sequence[list[Any]], memory: MutableMapping[str, str]
) -> tuple[list[float], list[tuple[float, ...]]]:
    """The metric of each item, and of a corpus metric each item's row of statistics."""
    if one.scorer is not None:
        items = [_item(one, place, instances) for place, instances in enumerate(asked)]
        return one.scorer.score(
            items, [_text(instances[0].filtered_resps[one.filter]) for instances in asked], memory
        ), []
    found = [
        metrics_of(one, place, [instance.filtered_resps[one.filter] for instance in instances])
        for place, instances in enumerate(asked)
    ]
    if one.corpus is None:
        return [
            value_of(metrics, one.benchmark, name) for metrics, name in zip(found, one.items.names, strict=True)
        ], []
    rows = rows_of(one.corpus, [metrics[one.benchmark.metric] for metrics in found])
    return [corpus.sentence_score(one.corpus, row) for row in rows], rows


def _beside(one: Prepared, asked: Sequence[list[Any]]) -> Sequence[float | None]:
    """The other figure of each item, as the harness itself finds it."""
    if (figure := one.benchmark.beside) is None:
        return [None] * len(asked)
    theirs, benchmark = as_the_harness(one.task), replace(one.benchmark, metric=figure.metric)
    values = []
    for doc, name, instances in zip(one.items.docs, one.items.names, asked, strict=True):
        answers = [instance.filtered_resps[figure.filter or one.filter] for instance in instances]
        values.append(value_of(theirs.process_results(copy.deepcopy(doc), answers), benchmark, name))
    return values


def _item(one: Prepared, place: int, instances: Sequence[Any]) -> Item:
    doc, asked = one.items.docs[place], one.benchmark
    return Item(
        asked.name,
        asked.language,
        one.items.names[place],
        doc,
        instances[0].args[0],
        one.task.doc_to_target(copy.deepcopy(doc)),
    )


def _example(one: Prepared, place: int, instances: Sequence[Any], value: float) -> Example:
    """What a person needs to see why an item got its value."""
    asked, doc = one.benchmark, copy.deepcopy(one.items.docs[place])
    target, context = one.task.doc_to_target(doc), instances[0].args[0]
    labels = (asked.name, asked.language, one.items.names[place], one.items.groups[place], context)
    if instances[0].request_type == "generate_until":
        output, extracted = instances[0].resps[0], _text(instances[0].filtered_resps[one.filter])
        return Example(*labels, (), (), output, extracted, _text(target), asked.metric, value)
    # Some tasks vary the context and keep the continuation: then it is the contexts that are chosen from.
    choices = tuple(instance.args[1] for instance in instances)
    if len(set(choices)) == 1 < len(instances):
        choices = tuple(instance.args[0] for instance in instances)
    logprobs = tuple(instance.resps[0][0] for instance in instances)
    lengths = [len(choice) if asked.metric == "acc_norm" else 1 for choice in choices]
    chosen = choices[max(range(len(choices)), key=lambda n: logprobs[n] / max(lengths[n], 1))]
    reference = choices[target] if isinstance(target, int) and target < len(choices) else _text(target)
    return Example(*labels, choices, logprobs, None, chosen, reference, asked.metric, value)


def _text(value: Any) -> str:
    """A filtered answer or a target as text: the harness allows lists and numbers."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def answer_of(
    instance: Any, place: int, batch: Batch, answers: Answers, benchmark: Benchmark
) -> tuple[float, bool] | str:
    """Returns an answer as the harness wants it; of a thought without an end, none at all. Raises FailedBenchmark: a
    log-likelihood that is not finite."""
    if instance.request_type == WRITTEN:
        from lm_eval.models.utils import handle_stop_sequences, postprocess_generated_text

        text, stops = answers.generation[place], list(batch.generation[place].stop)
        if marks := marks_of(benchmark.prompting):
            text = answer_after(text, instance.args[0], marks) or ""
            stops += handle_stop_sequences(instance.args[1].get("until"), eos=None)
        return postprocess_generated_text(text, stops, None)
    name = benchmark.name
    answer = answers.loglikelihood[place]
    if not math.isfinite(answer.logprob):
        raise FailedBenchmark(f"{name}: log-likelihood {answer.logprob} of request {place}; expected a finite number")
    return answer.logprob, answer.greedy


def metrics_of(one: Prepared, place: int, filtered: Sequence[Any]) -> Mapping[str, Any]:
    """Returns the harness's metrics of an item for the filtered answers to its requests. Raises FailedBenchmark: its
    code cannot take them."""
    try:
        return one.task.process_results(copy.deepcopy(one.items.docs[place]), filtered)
    except Exception as error:  # of code that is the task's own
        name = f"{one.benchmark.name}: item {one.items.names[place]}"
        raise FailedBenchmark(f"{name}: {type(error).__name__}: {one_line(error)}") from error


def value_of(metrics: Mapping[str, Any], benchmark: Benchmark, item: str) -> float:
    """Returns the benchmark's metric among those that the harness found for an item. Raises FailedBenchmark: it is not
    there, or not in [0, 1]."""
    if benchmark.metric not in metrics:
        raise FailedBenchmark(f"{benchmark.name}: item {item} got no {benchmark.metric}")
    value = float(metrics[benchmark.metric])
    if not 0 <= value <= 1:
        raise FailedBenchmark(
            f"{benchmark.name}: item {item} got {benchmark.metric} {value}; expected a number in [0, 1]"
        )
    return value
