"""Which of several models is better, on what, and how small a difference their items could have shown. Nothing is
judged here.

Tests are corrected in families, each by itself, so that the chance of calling any pair of equal models different is 5 %
per family (Holm's method):

- all pairs of a leaderboard's models, not only those with the best one: which is the best is read from the same scores,
  so its lead is flattered;
- the benchmarks of one pair of models;
- the languages of one pair of models.

A family over one pair says nothing about other pairs: to claim that a model is better in a language than *some* other,
correct over models too.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Literal, TypeVar

import numpy as np

from psomerge.evals.significance.intervals import LEVEL, RESAMPLES, Difference, paired
from psomerge.evals.suites.scores import BenchmarkScore

ALPHA = 1 - LEVEL
POWER = 0.8
"""Chance with which a difference must be found for the items to count as able to show it."""

Verdict = Literal["better", "worse", "no difference shown"]
Scores = Sequence[BenchmarkScore]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Contrast:
    """A paired difference as one of a family of tests."""

    difference: Difference
    """First minus second; its interval and p-value are of this test alone."""
    corrected: float
    """Holm's p-value in [0, 1]: the test's own, corrected for the family's others."""
    tests: int
    """In the family, this one included."""
    verdict: Verdict
    """Of the first model, by `corrected` at 5 %."""
    detectable: float | None
    """Smallest true difference, in (0, 1], that this test alone finds with POWER; None if these items could show none
    at all."""
    detectable_corrected: float | None
    """The same after correction: at the level that the test had to reach, 5 % / (`tests` - those of the others that
    Holm's method called different)."""


@dataclass(frozen=True)
class Pair:
    """One model minus another by benchmark and by language, each a family."""

    benchmarks: Mapping[str, Contrast]
    languages: Mapping[str, Contrast]


@dataclass(frozen=True)
class Ranks:
    """The ranks that a model may have, from 1; equal where every other model is significantly better or worse."""

    best: int
    worst: int


def compare(first: Scores, second: Scores, resamples: int = RESAMPLES) -> Pair:
    """Returns first minus second by benchmark and by language, in the scores' order.

    Args:
        first, second: one score per benchmark, of the same benchmarks and items in the same order.
        resamples: of `paired`, or as many more as the strictest p-value of the family needs.

    Raises:
        ValueError: the two hold different benchmarks or items.
    """
    if len(first) != len(second):
        paired(first, second, resamples)  # says what differs
    both = list(zip(first, second, strict=True))
    benchmarks = _family({a.benchmark: ([a], [b]) for a, b in both}, resamples)
    tags = list(dict.fromkeys(a.language for a, _ in both))
    if len(tags) == len(benchmarks):  # one benchmark a language: the same family of the same tests
        return Pair(benchmarks, dict(zip(tags, benchmarks.values(), strict=True)))
    parts = {
        tag: ([a for a, _ in both if a.language == tag], [b for a, b in both if a.language == tag]) for tag in tags
    }
    return Pair(benchmarks, _family(parts, resamples))


def compare_all(models: Mapping[str, Scores], resamples: int = RESAMPLES) -> dict[tuple[str, str], Contrast]:
    """Returns every pair's difference over all benchmarks by their weights, under both orders of its two labels; all
    pairs are one family.

    Raises:
        ValueError: two models hold different benchmarks or items.
    """
    found = _family({(a, b): (models[a], models[b]) for a, b in combinations(models, 2)}, resamples)
    return found | {(b, a): _turned(tested) for (a, b), tested in found.items()}


def ranks(labels: Sequence[str], pairs: Mapping[tuple[str, str], Contrast]) -> dict[str, Ranks]:
    """Returns the ranks that each of the models that `compare_all` was given may have.

    Best: 1 + the models that are significantly better. Worst: all models - those that are significantly worse.
    """
    counted = {label: [pairs[label, other].verdict for other in labels if other != label] for label in labels}
    return {
        label: Ranks(1 + verdicts.count("worse"), len(labels) - verdicts.count("better"))
        for label, verdicts in counted.items()
    }


def detectable(first: Scores, second: Scores, difference: Difference, level: float = ALPHA) -> float | None:
    """Returns the smallest true difference that `paired` would find on such items with chance POWER, in (0, 1].

    One benchmark of right-or-wrong, ungrouped items: by the exact power of McNemar's exact test, where as many items
    are answered apart as here, or, if they are fewer than the difference needs, no more than it needs. Else the normal
    approximation: the difference MDD that solves

        MDD = z(1 - level / 2) * sqrt(SE^2 + MDD^2 / groups) + z(POWER) * SE

    where SE is half the length of the bootstrap's interval / z(0.975), thus the spread by groups, of corpus metrics
    too. With many groups that is (z(1 - level / 2) + z(POWER)) * SE; with few, sign flips of a true difference spread
    more than its error does, and find it less often. Where nothing spreads, groups count as right-or-wrong items.

    Args:
        difference: of `paired(first, second)`.
        level: two-sided, of the test; in (0, 1).

    Returns:
        None if even a difference of 1 would be found with less chance.

    Source: Card et al. 2020, "With Little Power Comes Great Responsibility" (McNemar's test with a given rate of
    disagreement); Miller 2024, "Adding
        Error Bars to Evals", arXiv 2411.00640 (with z alone). Both plan a test, with guessed spreads; here they are
        those found. MDD^2 / groups is ours.
    """
    from scipy.stats import norm

    groups = len({group for score in first for group in score.groups})
    if (
        len(first) == 1
        and groups == difference.n
        and all(score.corpus is None and set(score.values) <= {0.0, 1.0} for score in (*first, *second))
    ):
        return _detectable_by_mcnemar(
            groups, sum(a != b for a, b in zip(first[0].values, second[0].values, strict=True)), level
        )
    error = (difference.high - difference.low) / (2 * float(norm.ppf((1 + LEVEL) / 2)))
    if error == 0:
        return _detectable_by_mcnemar(groups, 0, level)
    beyond, power = float(norm.ppf(1 - level / 2)), float(norm.ppf(POWER))
    rest = 1 - beyond**2 / groups
    if (
        rest <= 0 or 2.0 ** (1 - groups) > level
    ):  # the latter is the p-value if all groups agree: no sign flips give a smaller one
        return None
    found = error * (power + math.sqrt(power**2 + rest * (beyond**2 - power**2))) / rest
    return found if found <= 1 else None


@lru_cache(maxsize=65536)
def _detectable_by_mcnemar(items: int, apart: int, level: float) -> float | None:
    """Smallest true difference between two models that answer `apart` of `items` items differently."""
    from scipy.optimize import brentq
    from scipy.stats import binom

    numbers = np.arange(items + 1)
    # Of so many items answered apart, at most this many may speak for the worse model: P(X <= losses) < level / 2; -1:
    # none does.
    losses = binom.ppf(level / 2, numbers, 0.5) - 1

    def power(gap: float) -> float:
        rate = max(apart / items, gap)
        return float(binom.pmf(numbers, items, rate) @ binom.cdf(losses, numbers, (1 - gap / rate) / 2))

    return float(brentq(lambda gap: power(gap) - POWER, 1e-9, 1.0, xtol=1e-5)) if power(1.0) >= POWER else None  # pyright: ignore[reportArgumentType]


def _family(pairs: Mapping[Key, tuple[Scores, Scores]], resamples: int) -> dict[Key, Contrast]:
    """Tests every pair, and corrects for their number."""
    from statsmodels.stats.multitest import multipletests

    if not pairs:
        return {}
    tests = len(pairs)
    resamples = max(
        resamples, math.ceil(2 * tests / ALPHA)
    )  # a sampled p-value is 1 / (1 + resamples) or more: it must get below ALPHA / tests
    found = {key: paired(first, second, resamples) for key, (first, second) in pairs.items()}
    p_values = [difference.p_value for difference in found.values()]
    apart, corrected = (np.asarray(part) for part in multipletests(p_values, ALPHA, method="holm")[:2])
    called = int(apart.sum())
    return {
        key: Contrast(
            difference,
            float(p_value),
            tests,
            _verdict(difference.mean, bool(shown)),
            detectable(*pairs[key], difference),
            detectable(*pairs[key], difference, ALPHA / (tests - (called - int(shown)))),
        )
        for (key, difference), shown, p_value in zip(found.items(), apart, corrected, strict=True)
    }


def _verdict(mean: float, shown: bool) -> Verdict:
    if not shown:
        return "no difference shown"
    return "better" if mean > 0 else "worse"


def _turned(tested: Contrast) -> Contrast:
    """The same test, second model minus first."""
    old = tested.difference
    turned = replace(old, mean=0.0 - old.mean, low=0.0 - old.high, high=0.0 - old.low)
    return replace(tested, difference=turned, verdict=_verdict(turned.mean, tested.verdict != "no difference shown"))
