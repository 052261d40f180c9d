"""Exact early stopping: a model whose fitness can no longer exceed a given one needs no further answers.

The bound is the suite's fitness if everything that is not scored yet were right. It falls with every answer and ends at the fitness itself, in floats too,
so a model that is stopped here would not have had more than the fitness to beat, and one that has more is never stopped.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from evals.engine import Answers
from evals.harness import FailedBenchmark, Tally

PART = 0.05
"""Share of a batch's requests between two looks at the answers."""


class ExactStop:
    """A `Watch` that ends a judgement once the fitness cannot exceed `beat`."""

    def __init__(self, tally: Tally, fitness: Callable[[Mapping[str, float]], float], beat: float) -> None:
        """Looks at nothing yet.

        Args:
            tally: of the evaluation set; nobody else uses it meanwhile.
            fitness: of one score by benchmark; monotone in each.
            beat: what the fitness must exceed to be of interest.
        """
        self._tally, self._fitness, self._beat = tally, fitness, beat
        self.bound: float | None = None
        """The most that the fitness can be, once that is not more than `beat`: then the judgement was stopped. Else None."""
        self.answered = 0
        """Requests whose answers the bound stands on."""
        self._failed = False

    def start(self) -> Sequence[int]:
        """Returns where to look: first after the requests whose items, were all of them wrong, would be enough, then every `PART` of all."""
        self._tally.begin()
        self.bound, self.answered, self._failed = None, 0, False
        return range(self._first(), self._tally.requests, ceil(PART * self._tally.requests))

    def go_on(self, answers: Answers) -> bool:
        """Returns whether the fitness may still exceed what is to be beaten. A model that cannot be scored is judged to the end, where it fails as ever."""
        if self._failed or self.bound is not None:
            return self._failed
        try:
            self._tally.add(answers)
        except FailedBenchmark:
            self._failed = True
            return True
        most = self._fitness(self._tally.most())
        if most <= self._beat:
            self.bound, self.answered = most, len(answers.loglikelihood) + len(answers.generation)
        return self.bound is None

    def _first(self) -> int:
        """The fewest answers that can be enough, by bisection: the more are wrong, the lower the bound."""
        low, high = 0, self._tally.requests
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fitness(self._tally.least_most(middle)) <= self._beat else (middle, high)
        return high
