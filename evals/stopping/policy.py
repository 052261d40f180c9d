"""Which judgements are ended early, by what: made once from a run's config."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from psomerge.evals.harness import EvaluationSet
from psomerge.evals.stopping.early import ExactStop, SequentialStop
from psomerge.evals.suites.fitness import References, aggregate, missing, monotone, slopes
from psomerge.evals.suites.scores import Judgement
from psomerge.evals.suites.suite import Suite


@dataclass(frozen=True)
class Stopping:
    """`off`, `exact` or `sequential`."""

    kind: Literal["off", "exact", "sequential"] = "exact"
    error_rate: float = 0.05
    """Of `sequential`: chance at most, in (0, 1), of stopping a model that would have won."""

    def ordered(self, evaluation: EvaluationSet, address: str) -> EvaluationSet:
        """Returns the set with its items in the order that the policy needs; `address` draws a random one."""
        return evaluation.shuffled(address) if self.kind == "sequential" else evaluation

    def watch(
        self, suite: Suite, evaluation: EvaluationSet, best: Judgement | None, references: References | None
    ) -> ExactStop | None:
        """Returns what ends one judgement whose fitness cannot exceed that of `best`; None where it is to be made to
        its end.

        Args:
            suite: says how scores become fitness.
            evaluation: that is judged, as `ordered` gave it.
            best: the judgement to exceed; None, or one without fitness: every fitness is of interest.
            references: what floors and a normalised fitness are told beside.
        """
        if self.kind == "off" or best is None or best.fitness is None or not monotone(suite):
            return None
        tally = evaluation.tally()
        fitness: Callable[[Mapping[str, float]], float] = lambda found: aggregate(suite, found, references)  # noqa: E731
        linear = slopes(suite, references)
        if self.kind == "exact" or linear is None or missing(suite, best.scores, references):
            return ExactStop(tally, fitness, best.fitness)
        return SequentialStop(
            tally,
            fitness,
            best.fitness,
            best=best.scores,
            slopes=linear,
            drawn=evaluation.drawn(tally),
            error_rate=self.error_rate,
        )


EXACT = Stopping()
"""Changes no result."""
