"""From scores to fitness: worked out by hand on four benchmarks in three languages, one of them weighing double."""

import random
from pathlib import Path

import pytest

from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.fitness import (
    LEAST_GAIN,
    References,
    aggregate,
    fitness,
    missing,
    monotone,
    needs_references,
    slopes,
)
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.evals.suites.suite import Suite

SUITE = """\
name: small
salt: s1
shares: {optimisation: 0.3, validation: 0.2, test: 0.5}
benchmarks:
  - {task: pick, languages: [so, tk], metric: acc}
  - {task: "xcopa_{language}", languages: [et], metric: acc, weight: 2}
  - {task: kind, language: so, metric: acc}
"""


def suite(folder: Path, aggregate: str = "{}", floor: str = "") -> Suite:
    path = folder / "small.yaml"
    path.write_text(
        f"{SUITE.replace('language: so,', f'language: so{floor},')}aggregate: {aggregate}\n", encoding="utf-8"
    )
    return load_suite(path)


def score(benchmark: str, *values: float) -> BenchmarkScore:
    names = tuple(str(number) for number in range(len(values)))
    return BenchmarkScore(benchmark, "en", "acc", 1.0, names, names, values)


# Means: kind 1, pick_so 0.5, pick_tk 0, xcopa_et 0.25 (weight 2). In no order that the suite knows.
SCORES = [
    score("kind", 1.0),
    score("xcopa_et", 1.0, 0.0, 0.0, 0.0),
    score("pick_so", 0.0, 1.0),
    score("pick_tk", 0.0, 0.0, 0.0),
]
MEANS = {"kind": 1.0, "pick_so": 0.5, "pick_tk": 0.0, "xcopa_et": 0.25}


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("{}", (1 + 0.5 + 0 + 2 * 0.25) / 5),
        ("{worst: 1}", 0.0),
        ("{worst: 3}", (0 + 2 * 0.25 + 0.5) / 4),
        ("{over: languages}", (0.75 + 0 + 0.25) / 3),  # so is the mean of kind and pick; et counts once
        ("{over: languages, worst: 2}", (0 + 0.25) / 2),
        ("{over: languages, worst: 1}", 0.0),
    ],
)
def test_fitness_is_the_mean_of_what_the_aggregate_names(tmp_path, aggregate, expected):
    assert fitness(suite(tmp_path, aggregate), SCORES) == pytest.approx(expected, abs=1e-15)


def test_the_order_of_scores_changes_no_bit(tmp_path):
    for text in ("{}", "{over: languages}", "{worst: 2}"):
        one = suite(tmp_path, text)
        assert len({fitness(one, SCORES[place:] + SCORES[:place]) for place in range(4)}) == 1


def test_fitness_over_fewer_or_other_benchmarks_is_refused(tmp_path):
    for scores in (SCORES[1:], [*SCORES, SCORES[0]], [*SCORES[1:], score("other", 1.0)]):
        with pytest.raises(ValueError, match="expected one score each"):
            fitness(suite(tmp_path), scores)


# The base and two experts on the same items: the best expert gains 0.5 on kind, 0.5 on pick_so, nothing on pick_tk, and
# 0.02 on xcopa_et.
BASE = {"kind": 0.5, "pick_so": 0.25, "pick_tk": 0.25, "xcopa_et": 0.25}
REFERENCES = References(BASE, {"kind": 1.0, "pick_so": 0.75, "pick_tk": 0.25, "xcopa_et": 0.27})


def test_a_normalised_fitness_counts_from_the_base_to_the_best_expert(tmp_path):
    one = suite(tmp_path, "{normalised: true}")
    assert needs_references(one)
    # kind (1 - .5) / .5, pick_so (.5 - .25) / .5, pick_tk (0 - .25) / LEAST_GAIN, xcopa_et (.25 - .25) / LEAST_GAIN
    # twice.
    assert fitness(one, SCORES, REFERENCES) == pytest.approx((1 + 0.5 - 0.25 / LEAST_GAIN + 2 * 0.0) / 5)
    assert fitness(
        suite(tmp_path, "{normalised: true, over: languages, worst: 2}"), SCORES, REFERENCES
    ) == pytest.approx((-0.25 / LEAST_GAIN + 0) / 2)


def test_references_are_the_base_and_the_best_expert_on_each_benchmark():
    first, second = [score("kind", 1.0, 0.0), score("pick", 0.0)], [score("kind", 0.0, 0.0), score("pick", 1.0)]
    found = References.of([score("kind", 0.0, 0.0), score("pick", 0.5)], [first, second])
    assert (found.base, found.best) == ({"kind": 0.0, "pick": 0.5}, {"kind": 0.5, "pick": 1.0})
    assert References.of(first, []).best == {"kind": 0.5, "pick": 0.0}


def floored(folder: Path, floors: dict[str, str], aggregate: str = "{}") -> Suite:
    path, text = folder / "floors.yaml", SUITE
    for line, floor in floors.items():
        assert line in text
        text = text.replace(line, f"{line}, floor: {floor}")
    path.write_text(f"{text}aggregate: {aggregate}\n", encoding="utf-8")
    return load_suite(path)


def test_a_model_below_a_floor_is_worse_than_every_model_that_keeps_it_and_the_worse_the_more_it_misses(tmp_path):
    at_least = floored(tmp_path, {"task: kind, language: so, metric: acc": "{at_least: 1.0}"})
    assert not needs_references(at_least)
    good, bad, worse = (
        [score("kind", *kind), *SCORES[1:]] for kind in ([1.0] * 4, [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0])
    )
    assert fitness(at_least, good) == fitness(suite(tmp_path), good)
    assert (fitness(at_least, bad), fitness(at_least, worse)) == pytest.approx((-0.25, -0.5))
    assert missing(at_least, worse) == pytest.approx({"kind": 0.5})
    worst = [score(one.benchmark, *([0.0] * len(one.values))) for one in SCORES[1:]]
    assert fitness(at_least, [good[0], *worst]) > fitness(
        at_least, [bad[0], *(score(one.benchmark, 1.0) for one in worst)]
    )


def test_a_floor_below_the_base_follows_the_base_on_the_same_items(tmp_path):
    # "English may not lose more than one point": 0.5 in the base, so 0.49; pick_tk may lose a quarter, and does.
    one = floored(
        tmp_path,
        {
            "task: kind, language: so, metric: acc": "{below_base: 0.01}",
            "languages: [so, tk], metric: acc": "{below_base: 0.25}",
        },
    )
    assert needs_references(one)
    assert missing(one, SCORES, REFERENCES) == {}
    assert fitness(one, SCORES, REFERENCES) == fitness(suite(tmp_path), SCORES)
    poor = [score("kind", *([1.0] * 48 + [0.0] * 52)), *SCORES[1:]]
    assert missing(one, poor, REFERENCES) == pytest.approx({"kind": 0.01})
    kept = [score("kind", *([1.0] * 49 + [0.0] * 51)), *SCORES[1:]]
    assert missing(one, kept, REFERENCES) == {}  # 0.5 - 0.01 is a little more than 0.49
    assert fitness(one, poor, REFERENCES) == pytest.approx(-0.01)
    normal = floored(
        tmp_path, {"task: kind, language: so, metric: acc": "{below_base: 0.01, at_least: 0.6}"}, "{normalised: true}"
    )
    assert fitness(normal, kept, REFERENCES) == pytest.approx(-1 / LEAST_GAIN - 0.11)  # the higher of the two floors


BESIDE = References(dict.fromkeys(MEANS, 0.25), {"kind": 0.5, "pick_so": 0.26, "pick_tk": 0.75, "xcopa_et": 1.0})
AGGREGATES = [
    "{}",
    "{worst: 1}",
    "{over: languages}",
    "{over: languages, worst: 2}",
    "{normalised: true}",
    "{over: languages, worst: 1, normalised: true}",
]


@pytest.mark.parametrize("aggregate_text", AGGREGATES)
@pytest.mark.parametrize("floor", ["", ", floor: {at_least: 0.5}"])
def test_a_higher_score_never_gives_less_fitness_to_the_bit(tmp_path, aggregate_text, floor):
    one = suite(tmp_path, aggregate_text, floor)
    assert monotone(one)
    draw = random.Random(0)
    for _ in range(2000):
        low = {name: draw.randrange(31) / 30 for name in MEANS}
        high = low | {
            name: draw.randrange(int(30 * low[name]), 31) / 30
            for name in draw.sample(sorted(MEANS), draw.randrange(1, 5))
        }
        high = {name: max(high[name], low[name]) for name in MEANS}
        assert aggregate(one, high, BESIDE) >= aggregate(one, low, BESIDE)


def test_the_aggregate_of_scores_by_name_is_the_fitness(tmp_path):
    for text in ("{}", "{worst: 2}", "{over: languages}"):
        assert aggregate(suite(tmp_path, text), MEANS) == fitness(suite(tmp_path, text), SCORES)


def test_a_mean_of_several_worst_benchmarks_of_unequal_weight_is_not_monotone(tmp_path):
    # Worst two of pick_tk 0.1, xcopa_et 0.5 (weight 2), kind 0.6: (0.1 + 2 * 0.5) / 3 = 0.367. xcopa_et rises to 0.7
    # and leaves: (0.1 + 0.6) / 2 = 0.35.
    one = suite(tmp_path, "{worst: 2}")
    low = {"pick_tk": 0.1, "xcopa_et": 0.5, "kind": 0.6, "pick_so": 1.0}
    assert aggregate(one, low) == pytest.approx(1.1 / 3)
    assert aggregate(one, low | {"xcopa_et": 0.7}) == pytest.approx(0.7 / 2)
    assert not monotone(one)
    assert [
        monotone(suite(tmp_path, text)) for text in ("{worst: 1}", "{worst: 4}", "{over: languages, worst: 2}")
    ] == [True, True, True]


@pytest.mark.parametrize(
    "aggregate_text", ["{}", "{over: languages}", "{normalised: true}", "{over: languages, normalised: true}"]
)
def test_slopes_are_what_a_point_more_adds(tmp_path, aggregate_text):
    one = suite(tmp_path, aggregate_text)
    found, before = slopes(one, BESIDE), aggregate(one, MEANS, BESIDE)
    assert found == pytest.approx(
        {name: (aggregate(one, MEANS | {name: MEANS[name] + 0.01}, BESIDE) - before) / 0.01 for name in MEANS}
    )


def test_in_a_worst_of_several_there_are_no_slopes(tmp_path):
    assert [slopes(suite(tmp_path, text)) for text in ("{worst: 1}", "{over: languages, worst: 2}")] == [None, None]
