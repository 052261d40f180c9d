"""Scores as records: what a model reached on a benchmark, item by item."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psomerge.evals.metrics import corpus


@dataclass(frozen=True)
class BenchmarkScore:
    """One model on one benchmark of one evaluation set."""

    benchmark: str
    language: str
    metric: str
    weight: float
    items: tuple[str, ...]
    """Stable identity of each item."""
    groups: tuple[str, ...]
    """Cluster of each item (passage, concept): items of one group stay in one split and are resampled together."""
    values: tuple[float, ...]
    """The metric per item, in [0, 1], in the order of `items`; never empty. Of a corpus metric: of each item alone, for
    tables and traces."""
    corpus: str | None = None
    """Name in `evals.metrics.corpus` of a metric that is of all items together; None: the score is the mean of
    `values`."""
    statistics: tuple[tuple[float, ...], ...] = ()
    """Of a corpus metric: one row of sufficient statistics an item."""

    @property
    def score(self) -> float:
        """Plain mean of `values`, or the corpus metric of the summed `statistics`; in [0, 1]."""
        if self.corpus is not None:
            return corpus.score(self.corpus, self.statistics)
        return sum(self.values) / len(self.values)


Scores = tuple[BenchmarkScore, ...]
"""One model's, one for each benchmark of a suite."""


def together(parts: Sequence[Scores | None]) -> Scores | None:
    """Returns one model's scores on several splits as one, every item once; None if it failed on any."""
    sound = [part for part in parts if part is not None]
    return tuple(_joined(scores) for scores in zip(*sound, strict=True)) if len(sound) == len(parts) else None


def _joined(scores: Sequence[BenchmarkScore]) -> BenchmarkScore:
    columns = {
        field: tuple(one for score in scores for one in getattr(score, field))
        for field in ("items", "groups", "values", "statistics")
    }
    return replace(scores[0], **columns)


@dataclass(frozen=True)
class Example:
    """One item as one model answered it: what a score can be traced to."""

    benchmark: str
    language: str
    item: str
    """Stable identity."""
    group: str
    prompt: str
    """As the model saw it, chat template included, before tokenisation."""
    choices: tuple[str, ...]
    """Of a question with choices: the texts among which the likeliest is the answer."""
    logprobs: tuple[float, ...]
    """Natural-log probability of each choice after the prompt."""
    output: str | None
    """Of a question with a free answer: what the model wrote."""
    extracted: str
    """What counts as the answer: the likeliest choice, or what the filter took from the output."""
    reference: str
    """The right answer."""
    metric: str
    value: float
    """The metric of this item, in [0, 1]."""
    beside: float | None = None
    """The suite's other figure of this item, where it asks for one."""


@dataclass(frozen=True)
class Judgement:
    """One model on one evaluation set: the fitness in [0, 1]; or None, with the reason if any benchmark failed, or with
    a bound if it was stopped early."""

    fitness: float | None
    scores: tuple[BenchmarkScore, ...] = ()
    failure: str | None = None
    seconds: dict[str, float] | None = None
    peak_bytes: int = 0
    bound: float | None = None
    """Of a judgement that was stopped: the most that the fitness could have been, and not more than what it had to
    exceed."""
    risk: float = 0.0
    """Of a judgement that was stopped: chance at most that the fitness is above the bound after all; 0 unless by a
    sequential test."""
    tokens: int = 0
    """That the engine computed; 0 if not known."""
    tokens_of: int = 0
    """That a judgement to the end computes: its own tokens, or if this one was stopped those of one that was not."""
    answered: int = 0
    """Of a judgement that was stopped: requests whose answers its bound stands on; `requests`: of how many."""
    requests: int = 0
