"""Scores as records: what a model reached on a benchmark, item by item."""

from dataclasses import dataclass

from evals import corpus


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
    """The metric per item, in [0, 1], in the order of `items`; never empty. Of a corpus metric: of each item alone, for tables and traces."""
    corpus: str | None = None
    """Name in `evals.corpus` of a metric that is of all items together; None: the score is the mean of `values`."""
    statistics: tuple[tuple[float, ...], ...] = ()
    """Of a corpus metric: one row of sufficient statistics an item."""

    @property
    def score(self) -> float:
        """Plain mean of `values`, or the corpus metric of the summed `statistics`; in [0, 1]."""
        if self.corpus is not None:
            return corpus.score(self.corpus, self.statistics)
        return sum(self.values) / len(self.values)


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


@dataclass(frozen=True)
class Judgement:
    """One model on one evaluation set: the fitness in [0, 1], or None with the reason if any benchmark failed."""

    fitness: float | None
    scores: tuple[BenchmarkScore, ...] = ()
    failure: str | None = None
    seconds: dict[str, float] | None = None
    peak_bytes: int = 0
