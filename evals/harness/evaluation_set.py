"""A suite's split as one batch of requests, built and tokenised once, and the scores of any number of models' answers to it."""

import copy
import json
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from evals import corpus
from evals.engine import Answers, Batch
from evals.harness.corpus import corpus_metric, rows_of
from evals.harness.items import Items
from evals.harness.tasks import one_line
from evals.scores import BenchmarkScore
from evals.suite import Benchmark, Suite
from psomerge.digest import digest_of
from psomerge.errors import EngineError

SCORING_KEYS = ("output_type", "doc_to_text", "doc_to_choice", "doc_to_target", "process_results", "metric_list", "filter_list", "generation_kwargs", "repeats")
"""Of a task's configuration: what turns answers into values. Prompts are in the digest as tokens, documents by their hashes."""


class FailedBenchmark(Exception):  # noqa: N818 (a judgement's outcome, to be recorded, not a fault of the program)
    """A model cannot be scored on a benchmark; the text is the reason. The caller records it: fitness null, worse than every other."""


@dataclass(frozen=True)
class Prepared:
    """One benchmark with its requests: `asked[i]` is where the answer to the task's i-th instance lies in the batch's answers of its kind."""

    benchmark: Benchmark
    task: Any
    items: Items
    filter: str
    asked: tuple[int, ...]

    @property
    def corpus(self) -> str | None:
        """Name of the corpus metric, or None where the score is a mean over items."""
        return None if self.benchmark.scorer else corpus_metric(self.task.aggregation().get(self.benchmark.metric))


@dataclass(frozen=True)
class EvaluationSet:
    """All requests of one split of a suite, in a fixed order, and the way from answers to scores."""

    name: str
    """The split: `optimisation`, `validation` or `test`."""
    batch: Batch
    """Each different request once, in the order of benchmarks, items and choices."""
    digest: str
    """64 hex digits that change with everything that could change a score, and with nothing else."""
    prepared: tuple[Prepared, ...] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def items(self) -> dict[str, tuple[str, ...]]:
        """Identities of the items, by benchmark."""
        return {one.benchmark.name: one.items.names for one in self.prepared}

    @property
    def longest(self) -> int:
        """Tokens of the longest request with its answer: what an engine must have room for."""
        scored = [len(request.context) + len(request.continuation) for request in self.batch.loglikelihood]
        return max(scored + [len(request.prompt) + request.max_tokens for request in self.batch.generation])

    def score(self, answers: Answers) -> tuple[BenchmarkScore, ...]:
        """Returns a model's score on each benchmark, in the suite's order; nothing of it stays behind.

        Args:
            answers: to `batch`, in its order.

        Raises:
            FailedBenchmark: a log-likelihood that is not finite, or a benchmark whose scoring fails.
            EngineError: another number of answers than requests.
        """
        for kind in ("loglikelihood", "generation"):
            if (found := len(getattr(answers, kind))) != (expected := len(getattr(self.batch, kind))):
                raise EngineError(f"evaluation set {self.name}: expected {expected} answers of kind {kind}, found {found}")
        with self._lock:  # the harness writes answers into its own instances
            return tuple(_score(one, self.batch, answers) for one in self.prepared)

    def with_values(self, values: Mapping[str, Sequence[float]], statistics: Mapping[str, Sequence[Sequence[float]]]) -> tuple[BenchmarkScore, ...]:
        """Returns the scores that earlier values per item make, by benchmark, e.g. from a journal.

        Args:
            values: of every benchmark.
            statistics: rows per item, of each benchmark with a corpus metric.

        Raises:
            KeyError: a benchmark is missing.
        """
        return tuple(_record(one, values[one.benchmark.name], statistics[one.benchmark.name] if one.corpus else ()) for one in self.prepared)


def _score(one: Prepared, batch: Batch, answers: Answers) -> BenchmarkScore:
    """A model on one benchmark: filters and metric are the task's own. Its instances are emptied in any case, or the next model would inherit."""
    benchmark, task = one.benchmark, one.task
    try:
        for instance, place in zip(task.instances, one.asked, strict=True):
            instance.resps = [_answer(instance, place, batch, answers, benchmark.name)] * (instance.repeats or 1)
        task.apply_filters()
        by_doc: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_doc.setdefault(instance.doc_id, []).append(instance)
        found = []
        for place, doc in enumerate(one.items.docs):
            asked = sorted(by_doc[place], key=lambda instance: instance.idx)
            found.append(task.process_results(copy.deepcopy(doc), [instance.filtered_resps[one.filter] for instance in asked]))
        values, rows = _numbers(one, found)
    except FailedBenchmark:
        raise
    except Exception as error:
        # A metric or filter that fails on an unforeseen answer fails the judgement, not the run.
        raise FailedBenchmark(f"{benchmark.name}: {type(error).__name__}: {one_line(error)}") from error
    finally:
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}
    return _record(one, values, rows)


def _numbers(one: Prepared, found: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[tuple[float, ...]]]:
    """The metric of each item, from what the task found in it, and of a corpus metric each item's row of statistics."""
    if one.corpus is None:
        return [_value(metrics, one.benchmark, name) for metrics, name in zip(found, one.items.names, strict=True)], []
    rows = rows_of(one.corpus, [metrics[one.benchmark.metric] for metrics in found])
    return [corpus.sentence_score(one.corpus, row) for row in rows], rows


def _record(one: Prepared, values: Sequence[float], rows: Sequence[Sequence[float]]) -> BenchmarkScore:
    record, names, groups = one.benchmark, one.items.names, one.items.groups
    statistics = tuple(tuple(row) for row in rows)
    return BenchmarkScore(record.name, record.language, record.metric, record.weight, names, groups, tuple(values), one.corpus, statistics)


def _answer(instance: Any, place: int, batch: Batch, answers: Answers, name: str) -> tuple[float, bool] | str:
    if instance.request_type == "generate_until":
        from lm_eval.models.utils import postprocess_generated_text

        return postprocess_generated_text(answers.generation[place], list(batch.generation[place].stop), None)
    answer = answers.loglikelihood[place]
    if not math.isfinite(answer.logprob):
        raise FailedBenchmark(f"{name}: log-likelihood {answer.logprob} of request {place}; expected a finite number")
    return answer.logprob, answer.greedy


def _value(metrics: Mapping[str, Any], benchmark: Benchmark, item: str) -> float:
    if benchmark.metric not in metrics:
        raise FailedBenchmark(f"{benchmark.name}: item {item} got no {benchmark.metric}")
    value = float(metrics[benchmark.metric])
    if not 0 <= value <= 1:
        raise FailedBenchmark(f"{benchmark.name}: item {item} got {benchmark.metric} {value}; expected a number in [0, 1]")
    return value


def digest_of_set(suite: Suite, split: str, batch: Batch, prepared: Sequence[Prepared]) -> str:
    """Digest over tokens, documents, metrics and versions. Paths stay out: the same set has the same digest in any folder."""
    benchmarks = []
    for one in prepared:
        config = {key: value for key, value in one.task.dump_config().items() if key in SCORING_KEYS}
        scoring = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(config, sort_keys=True, default=str))
        record = one.benchmark
        labels = [record.name, record.task, record.language, record.metric, one.filter, record.weight]
        benchmarks.append([labels, scoring, str(one.task.VERSION), one.items.names, one.items.groups, one.asked])
        if one.corpus:
            benchmarks[-1].append(corpus.signature(one.corpus))
    requests = [[(r.context, r.continuation) for r in batch.loglikelihood], [(r.prompt, r.stop, r.max_tokens) for r in batch.generation]]
    return digest_of([suite.name, suite.salt, asdict(suite.aggregate), split, version("lm_eval"), requests, benchmarks])
