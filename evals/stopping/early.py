"""Early stopping: a model whose fitness cannot exceed a given one needs no further answers.

Exactly: the bound is the suite's fitness if everything that is not scored yet were right. It falls with every answer
and ends at the fitness itself, in floats too, so a model that is stopped here would not have had more than the fitness
to beat, and one that has more is never stopped.

Sequentially: a test on the items that both models have answered gives up a model that would win after all with a chance
of at most its error rate.
"""

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from psomerge.evals.engines.engine import Answers
from psomerge.evals.harness import Drawn, FailedBenchmark, Tally
from psomerge.evals.stopping.sequential import Draw, SequentialTest
from psomerge.evals.suites.scores import BenchmarkScore

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
        """The most that the fitness can be, once that is not more than `beat`: then the judgement was stopped. Else
        None."""
        self.answered = 0
        """Requests whose answers the bound stands on."""
        self.risk = 0.0
        """Chance at most that a model which was stopped exceeds the bound after all."""
        self._failed = False

    def start(self) -> Sequence[int]:
        """Returns where to look: first after the requests whose items, were all of them wrong, would be enough, then
        every `PART` of all."""
        self._tally.begin()
        self.bound, self.answered, self._failed = None, 0, False
        return range(self._first(), self._tally.requests, ceil(PART * self._tally.requests))

    def go_on(self, answers: Answers) -> bool:
        """Returns whether the fitness may still exceed what is to be beaten. A model that cannot be scored is judged to
        the end, where it fails as ever."""
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


class SequentialStop(ExactStop):
    """An `ExactStop` that also ends a judgement once a sequential test gives the model up against the best that it has
    to beat."""

    def __init__(
        self,
        tally: Tally,
        fitness: Callable[[Mapping[str, float]], float],
        beat: float,
        *,
        best: Sequence[BenchmarkScore],
        slopes: Mapping[str, float],
        drawn: Drawn,
        error_rate: float,
    ) -> None:
        """Looks at nothing yet.

        Args:
            tally, fitness, beat: as of `ExactStop`.
            best: scores of the model that has `beat`, on the same items in the same order.
            slopes: what a point on each benchmark adds to the fitness, which is linear in all of them from `beat` up.
            drawn: the items that are scored one by one, in the random order in which they are asked.
            error_rate: chance at most, over that order, of stopping a model whose fitness exceeds `beat`; in (0, 1).
        """
        super().__init__(tally, fitness, beat)
        self._best, self._error_rate = [score.values for score in best], error_rate
        self._worth = [slopes[score.benchmark] / len(score.values) for score in best]
        self._strata = [[self._draw(items) for items in stratum] for stratum in drawn]
        one_by_one = {place for stratum in drawn for items in stratum for place, _ in items}
        self._spare = sum(
            slopes[score.benchmark] * (1 - score.score) for place, score in enumerate(best) if place not in one_by_one
        )
        self._test = self._begin()

    def start(self) -> Sequence[int]:
        """Returns where to look: after every `PART` of the requests, and where `ExactStop` does."""
        exact = super().start()
        self._test, self.risk = self._begin(), 0.0
        part = ceil(PART * self._tally.requests)
        return sorted({*exact, *range(part, self._tally.requests, part)})

    def go_on(self, answers: Answers) -> bool:
        """Returns whether the fitness may still exceed what is to be beaten, as far as the test can tell."""
        if not super().go_on(answers) or self._failed:
            return self._failed
        while (draw := self._test.next) and None not in (values := [self._tally.value(*one) for one in draw.items]):
            self._test.add(
                sum(
                    self._worth[place] * ((value or 0.0) - self._best[place][item])
                    for (place, item), value in zip(draw.items, values, strict=True)
                )
            )
        if self._test.given_up:
            self.risk = self._error_rate
            self.bound, self.answered = self._beat, len(answers.loglikelihood) + len(answers.generation)
        return self.bound is None

    def _begin(self) -> SequentialTest:
        return SequentialTest(self._strata, self._spare, self._error_rate)

    def _draw(self, items: Sequence[tuple[int, int]]) -> Draw:
        low = -sum(self._worth[place] * self._best[place][item] for place, item in items)
        return Draw(tuple(items), low, low + sum(self._worth[place] for place, _ in items))
