"""A leaderboard of models on one suite, as one plain record: what each scored, which differences are significant, which
ranks are open.

It is made from scores that others judged, on the same items for every model; it judges nothing. Scores and fitness lie
in [0, 1].
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from psomerge.errors import ConfigError, StateError
from psomerge.evals.significance.comparisons import Contrast, Ranks, compare, compare_all, ranks
from psomerge.evals.significance.intervals import RESAMPLES, Interval
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.tasks.report.records import record
from psomerge.tasks.report.rows import row

FORMAT = 1

Scores = Sequence[BenchmarkScore]


@dataclass(frozen=True)
class Line:
    """One model."""

    label: str
    fitness: float
    """The suite's aggregate: what lines are sorted by."""
    mean: Interval
    """Over benchmarks by their weights: what is tested."""
    benchmarks: Mapping[str, Interval]
    languages: Mapping[str, Interval]
    ranks: Ranks
    """That the tests leave open."""
    against_best: Contrast | None
    """This model minus the leaderboard's first; None for the first itself."""


@dataclass(frozen=True)
class Versus:
    """Two models side by side: first minus second."""

    first: str
    second: str
    overall: Contrast
    """One of the leaderboard's pairs, corrected with all of them."""
    benchmarks: Mapping[str, Contrast]
    languages: Mapping[str, Contrast]


@dataclass(frozen=True)
class Leaderboard:
    """Models on a suite, the highest fitness first."""

    suite: str
    lines: tuple[Line, ...]
    versus: Versus | None
    """The two models that were asked for, else the first two; None if there is one model only."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why, by label, of models that could not be scored: they have no line."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON data; `from_dict` of it equals this leaderboard, floats to the last bit."""
        return {"format": FORMAT} | json.loads(json.dumps(asdict(self), allow_nan=False))

    def line(self, label: str) -> Line:
        """Returns the line of that label. Raises KeyError where there is none."""
        return {line.label: line for line in self.lines}[label]


@dataclass(frozen=True)
class Differing:
    """One item that two models do not answer alike, with the values of its metric in [0, 1]."""

    benchmark: str
    language: str
    item: str
    first: float
    second: float


def leaderboard(
    suite: str,
    scores: Mapping[str, Scores],
    *,
    fitness: Mapping[str, float],
    versus: tuple[str, str] | None = None,
    failures: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
) -> Leaderboard:
    """Returns the leaderboard of the models in `scores`.

    Args:
        suite: its name.
        scores: by label; of each model one score per benchmark, of the same benchmarks and items in the same order.
        fitness: by label, the suite's aggregate of those scores.
        versus: labels of the two models to compare by benchmark and language, first minus second; the first two of the
            leaderboard unless given.
        failures: reasons by label, of models that are not in `scores`.
        resamples: of every interval and test.

    Raises:
        ConfigError: `versus` names a model that has no scores, or one model twice.
        ValueError: no scores, a label without a finite fitness, or models that were judged on different items.
    """
    _check(scores, fitness, versus)
    labels = sorted(scores, key=lambda label: -fitness[label])
    pairs = compare_all({label: scores[label] for label in labels}, resamples)
    places = ranks(labels, pairs)
    lines = []
    for label in labels:
        found = row(label, scores[label], kind="expert", resamples=resamples)
        mean = cast(Interval, found.mean)  # a row of scores has one
        lines.append(
            Line(
                label,
                fitness[label],
                mean,
                found.benchmarks,
                found.languages,
                places[label],
                pairs.get((label, labels[0])),
            )
        )
    two = versus or ((labels[0], labels[1]) if len(labels) > 1 else None)
    return Leaderboard(
        suite, tuple(lines), _versus(*two, scores, pairs, resamples) if two else None, dict(failures or {})
    )


def differing(first: Scores, second: Scores) -> list[Differing]:
    """Returns the items whose values differ between two models, in the scores' order.

    Raises:
        ValueError: the two hold different benchmarks or items.
    """
    _same_items({"first model": first, "second model": second})
    return [
        Differing(a.benchmark, a.language, item, one, other)
        for a, b in zip(first, second, strict=True)
        for item, one, other in zip(a.items, a.values, b.values, strict=True)
        if one != other
    ]


def from_dict(content: Mapping[str, Any], where: str = "leaderboard") -> Leaderboard:
    """Returns the leaderboard in plain JSON data.

    Raises:
        StateError: another format, or a key that is missing or of another type.
    """
    if content.get("format") != FORMAT:
        raise StateError(
            f"{where}: expected leaderboard format {FORMAT}, found {content.get('format')!r}; compare the models again"
        )
    return record(Leaderboard, content, where, remedy="compare the models again")


def _check(scores: Mapping[str, Scores], fitness: Mapping[str, float], versus: tuple[str, str] | None) -> None:
    without = [label for label in scores if not math.isfinite(fitness.get(label, math.nan))]
    if not scores or without:
        raise ValueError(
            f"a leaderboard needs scores and a finite fitness of each model, found scores of {list(scores)} and no "
            f"fitness of {without}"
        )
    if versus and (versus[0] == versus[1] or not set(versus) <= set(scores)):
        raise ConfigError(
            f"expected two of the models {', '.join(scores)} to compare, found {versus[0]} and {versus[1]}"
        )
    _same_items(scores)


def _same_items(scores: Mapping[str, Scores]) -> None:
    kept = {label: [(score.benchmark, score.language, score.items) for score in own] for label, own in scores.items()}
    reference, expected = next(iter(kept.items()))
    for label, found in kept.items():
        if found != expected:
            apart = next(
                (a[0] for a, b in zip(expected, found, strict=False) if a != b),
                f"{len(expected)} and {len(found)} benchmarks",
            )
            raise ValueError(
                f"{label} was judged on other items than {reference} ({apart}); judge both on one evaluation set"
            )


def _versus(
    first: str, second: str, scores: Mapping[str, Scores], pairs: Mapping[tuple[str, str], Contrast], resamples: int
) -> Versus:
    found = compare(scores[first], scores[second], resamples)
    return Versus(first, second, pairs[first, second], found.benchmarks, found.languages)
