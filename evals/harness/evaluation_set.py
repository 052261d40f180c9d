"""A suite's split as one batch of requests, built and tokenised once, and the scores of any number of models' answers
to it."""

import json
import re
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Answers, Batch
from psomerge.evals.harness import answers as compared
from psomerge.evals.harness.prepared import Prepared
from psomerge.evals.harness.scoring import examine, record
from psomerge.evals.harness.tally import Drawn, Tally
from psomerge.evals.metrics import corpus
from psomerge.evals.scorers import source_digest
from psomerge.evals.suites.scores import BenchmarkScore, Example
from psomerge.evals.suites.splits import position_of
from psomerge.evals.suites.suite import Suite
from psomerge.files.digest import digest_of

SCORING_KEYS = (
    "output_type",
    "doc_to_text",
    "doc_to_choice",
    "doc_to_target",
    "process_results",
    "metric_list",
    "filter_list",
    "generation_kwargs",
    "repeats",
)
"""Of a task's configuration: what turns answers into values. Prompts are in the digest as tokens, documents by their
hashes."""


@dataclass(frozen=True)
class EvaluationSet:
    """All requests of one split of a suite, in a fixed order, and the way from answers to scores."""

    name: str
    """The split: `optimisation`, `validation` or `test`."""
    batch: Batch
    """Each different request once, in the order of benchmarks, items and choices, or of `shuffled`."""
    digest: str
    """64 hex digits that change with everything that could change a score, and with nothing else."""
    prepared: tuple[Prepared, ...] = field(repr=False)
    order: str = ""
    """Address of the random order in which the items are asked; empty: they are asked in the suite's."""
    dates: tuple[str, ...] = ()
    """That a chat template writes in the prompts, YYYY-MM-DD; empty: it writes none."""
    equal: str = ""
    """What of the suite is asked under several names, and kept together; empty where nothing is."""
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

    def parts(self, requests: int) -> "list[EvaluationSet]":
        """Returns the set cut between benchmarks, in order, into sets of at least so many requests each but for the
        last; NAME/1, NAME/2, ..."""
        parts, chunk = [], []
        for one in self.prepared:
            chunk.append(one)
            if sum(len(other.asked) for other in chunk) >= requests or one is self.prepared[-1]:
                batch, asked = _own_batch(chunk, self.batch)
                prepared = tuple(replace(other, asked=places) for other, places in zip(chunk, asked, strict=True))
                names = [other.benchmark.name for other in chunk]
                parts.append(
                    EvaluationSet(f"{self.name}/{len(parts) + 1}", batch, digest_of([self.digest, names]), prepared)
                )
                chunk = []
        return parts

    def shuffled(self, address: str) -> "EvaluationSet":
        """Returns the set with its items asked in an order drawn by a hash of address and item, those of all benchmarks
        among each other."""
        names = [one.items.names for one in self.prepared]
        batch, asked = _own_batch(
            self.prepared, self.batch, lambda place, item: position_of(address, names[place][item])
        )
        prepared = tuple(replace(one, asked=places) for one, places in zip(self.prepared, asked, strict=True))
        return replace(self, batch=batch, digest=digest_of([self.digest, address]), prepared=prepared, order=address)

    def score(self, answers: Answers, memory: MutableMapping[str, str] | None = None) -> tuple[BenchmarkScore, ...]:
        """Returns a model's score on each benchmark, in the suite's order; arguments and errors as `examine`."""
        return tuple(score for score, _ in self.examine(answers, memory))

    def examine(
        self, answers: Answers, memory: MutableMapping[str, str] | None = None
    ) -> list[tuple[BenchmarkScore, list[Example]]]:
        """Returns a model's score on each benchmark with the items that it comes from, in the suite's order; nothing of
        it stays behind.

        Args:
            answers: to `batch`, in its order.
            memory: what scorers keep from one model to the next, e.g. an LLM judge's replies.

        Raises:
            FailedBenchmark: a log-likelihood that is not finite, or a benchmark whose scoring fails.
            EngineError: another number of answers than requests.
            ServiceError: of a scorer that asks a service.
        """
        for kind in ("loglikelihood", "generation"):
            if (found := len(getattr(answers, kind))) != (expected := len(getattr(self.batch, kind))):
                raise EngineError(
                    f"evaluation set {self.name}: expected {expected} answers of kind {kind}, found {found}"
                )
        kept = {} if memory is None else memory
        with self._lock:  # the harness writes answers into its own instances
            return [examine(one, self.batch, answers, kept) for one in self.prepared]

    def tally(self) -> Tally:
        """Returns what scores a model's answers item by item as they come, and what they can still become."""
        return Tally(self.batch, self.prepared, self._lock)

    def drawn(self, tally: Tally) -> Drawn:
        """Returns the items of a `shuffled` set that are scored one by one, in the order in which they are asked."""
        assert self.order, "shuffle the set first"
        return tally.drawn(lambda name: position_of(self.order, name))

    def with_values(
        self, values: Mapping[str, Sequence[float]], statistics: Mapping[str, Sequence[Sequence[float]]]
    ) -> tuple[BenchmarkScore, ...]:
        """Returns the scores that earlier values per item make, by benchmark, e.g. from a journal.

        Args:
            values: of every benchmark.
            statistics: rows per item, of each benchmark with a corpus metric.

        Raises:
            KeyError: a benchmark is missing.
        """
        return tuple(
            record(one, values[one.benchmark.name], statistics[one.benchmark.name] if one.corpus else ())
            for one in self.prepared
        )


def _own_batch(
    chunk: Sequence[Prepared], batch: Batch, key: Callable[[int, int], float] = lambda place, item: 0.0
) -> tuple[Batch, list[tuple[int, ...]]]:
    """The requests of some benchmarks alone, by the key of (benchmark's place, item) and else in order, and where each
    of their instances finds its own."""
    scored: dict[Any, int] = {}
    written: dict[Any, int] = {}
    asked = [[0] * len(one.asked) for one in chunk]
    ordered = sorted(
        (key(place, instance.doc_id), place, at)
        for place, one in enumerate(chunk)
        for at, instance in enumerate(one.task.instances)
    )
    for _, place, at in ordered:
        instance, old = chunk[place].task.instances[at], chunk[place].asked[at]
        known, request = (
            (written, batch.generation[old])
            if instance.request_type == "generate_until"
            else (scored, batch.loglikelihood[old])
        )
        asked[place][at] = known.setdefault(request, len(known))
    return Batch(tuple(scored), tuple(written)), [tuple(places) for places in asked]


def digest_of_set(suite: Suite, split: str, batch: Batch, prepared: Sequence[Prepared]) -> str:
    """Digest over tokens, documents, metrics and versions. Paths stay out: the same set has the same digest in any
    folder."""
    benchmarks = []
    for one in prepared:
        config = {key: value for key, value in one.task.dump_config().items() if key in SCORING_KEYS}
        scoring = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(config, sort_keys=True, default=str))
        asked = one.benchmark
        labels = [asked.name, asked.task, asked.language, asked.metric, one.filter, asked.weight]
        benchmarks.append([labels, scoring, str(one.task.VERSION), one.items.names, one.items.groups, one.asked])
        if asked.prompting.think_end_token:
            benchmarks[-1].append(["thought ends", asked.prompting.think_end_token])
        if asked.prompting.think_begin_token:
            benchmarks[-1].append(["thought begins", asked.prompting.think_begin_token])
        if asked.floor:  # a judgement is kept with its fitness
            benchmarks[-1].append(asdict(asked.floor))
        if one.corpus:
            benchmarks[-1].append(corpus.signature(one.corpus))
        elif (form := compared.signature(asked.metric)) and not one.scorer:
            benchmarks[-1].append(form)
        if one.scorer:
            benchmarks[-1] += [asked.scorer, dict(asked.scorer_options), source_digest(asked.scorer or "")]
    requests = [
        [(r.context, r.continuation) for r in batch.loglikelihood],
        [(r.prompt, r.stop, r.max_tokens, *(["special"] if r.special else [])) for r in batch.generation],
    ]
    return digest_of([suite.name, suite.salt, asdict(suite.aggregate), split, version("lm_eval"), requests, benchmarks])
