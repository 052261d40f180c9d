"""A sequential test: does a model still exceed another on the same items? Stops early, and is wrong at most as often as
it says.

Items are asked in random order, so those that are answered are a sample without replacement. Against the claim that the
model will come out ahead a gambler bets, item by item, that it falls behind; a bettor who starts with 1 has 1/alpha at
any time with a chance of at most alpha if the claim is true (Ville's inequality), so the claim is dropped when he does.
Nothing is assumed of the values but their bounds, and looking often costs nothing.

Source: Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2024, arXiv
2010.09686, section 5 (sampling without replacement).
"""

from collections.abc import Sequence
from dataclasses import dataclass

CAUTION = 0.5
"""Most of his wealth that the gambler risks on one item."""


@dataclass(frozen=True)
class Draw:
    """Items that are answered together, as one of a stratum's draws."""

    items: tuple[tuple[int, int], ...]
    """Benchmark and item, by number."""
    low: float
    """The least that these can add to the difference in fitness; not above 0."""
    high: float
    """The most; not below 0."""


class Bet:
    """The gambler's wealth on one population whose values are drawn without replacement, against the claim that their
    sum is `total` or more."""

    def __init__(self, number: int, total: float, low: float, high: float) -> None:
        """Starts with a wealth of 1.

        Args:
            number: of values in the population.
            total: that the claim says they reach.
            low, high: bounds of every value, low < high.
        """
        self._left, self._total, self._high, self._width = number, total, high, high - low
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self.wealth = 1.0
        """Never below 0. It is finite: what can only be had by certainty, that the rest cannot reach `total`, is for an
        exact bound to see."""

    def add(self, value: float) -> None:
        """Settles the bet on the next value, which was placed before it was known."""
        expected = (
            self._total - self._sum
        ) / self._left  # of the next value, if the sum is `total`; if it is more, more
        self.wealth *= 1 + self._stake(expected) * (expected - value)
        self._count, self._left = self._count + 1, self._left - 1
        self._sum += value
        self._squares += value * value

    def _stake(self, expected: float) -> float:
        """Kelly's stake from what was seen so far, as if half a width's worth of one value had been seen at
        `expected`."""
        worst = self._high - expected
        if worst <= 0:
            return 0.0
        weight = self._count + 1
        mean = (self._sum + expected) / weight
        variance = (self._squares + expected * expected + (self._width / 2) ** 2) / weight - mean * mean
        behind = max(0.0, expected - mean)
        return min(behind / (variance + behind * behind), CAUTION / worst)


class SequentialTest:
    """Whether a model can be given up against another whose values on the same items are known; strata are asked one
    after another."""

    def __init__(self, strata: Sequence[Sequence[Draw]], spare: float, error_rate: float) -> None:
        """Starts with nothing seen.

        Args:
            strata: in each the draws in the order, random within it, in which they are answered.
            spare: the most that the model can gain on all that is in no stratum, in fitness; at least 0.
            error_rate: chance at most, in (0, 1), that a model which would come out ahead is given up; shared out
                evenly over the strata.
        """
        self._strata = [list(draws) for draws in strata if draws]
        self._spare, self._limit = spare, len(self._strata) / error_rate
        self._stratum, self._draw, self._gained = 0, 0, 0.0
        self._bet = self._open()
        self.given_up = False

    @property
    def next(self) -> Draw | None:
        """The draw whose value is wanted next; None once all were seen."""
        return self._strata[self._stratum][self._draw] if self._stratum < len(self._strata) else None

    def add(self, difference: float) -> None:
        """Hears by how much the model's fitness gains on the other's through the items of `next`, in [low, high]."""
        assert self._bet is not None, "all were seen"
        self._bet.add(difference)
        self._gained += difference
        self.given_up = self.given_up or self._bet.wealth >= self._limit
        self._draw += 1
        if self._draw == len(self._strata[self._stratum]):
            self._stratum, self._draw = self._stratum + 1, 0
            self._bet = self._open()

    def _open(self) -> Bet | None:
        """The bet on the stratum that begins, against what it must at least gain if all that follows gains the most it
        can."""
        if self._stratum == len(self._strata):
            return None
        draws = self._strata[self._stratum]
        later = sum(draw.high for other in self._strata[self._stratum + 1 :] for draw in other)
        low, high = min(draw.low for draw in draws), max(draw.high for draw in draws)
        return Bet(len(draws), -self._gained - later - self._spare, low, high if high > low else low + 1.0)
