"""A benchmark with its items and requests, ready to be scored for any number of models."""

from dataclasses import dataclass
from typing import Any

from psomerge.evals.harness.corpus import corpus_metric
from psomerge.evals.harness.items import Items
from psomerge.evals.scorers import Scorer
from psomerge.evals.suites.suite import Benchmark


class FailedBenchmark(Exception):  # noqa: N818 (a judgement's outcome, to be recorded, not a fault of the program)
    """A model cannot be scored on a benchmark; the text is the reason. The caller records it: fitness null, worse than
    every other."""


@dataclass(frozen=True)
class Prepared:
    """One benchmark with its requests: `asked[i]` is where the answer to the task's i-th instance lies in the batch's
    answers of its kind."""

    benchmark: Benchmark
    task: Any
    items: Items
    filter: str
    asked: tuple[int, ...]
    scorer: Scorer | None = None
    """In place of the task's own metric."""

    @property
    def corpus(self) -> str | None:
        """Name of the corpus metric, or None where the score is a mean over items."""
        return None if self.benchmark.scorer else corpus_metric(self.task.aggregation().get(self.benchmark.metric))
