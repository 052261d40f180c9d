"""Intervals cover, tests do not cry wolf, and groups are what is resampled."""

import math

import numpy as np
import pytest
from scipy import stats

from psomerge.evals.significance.intervals import benchmark_interval, mean_interval, paired
from psomerge.evals.suites.scores import BenchmarkScore


def score(values, groups=None, benchmark="b", weight=1.0):
    names = tuple(f"i{number}" for number in range(len(values)))
    return BenchmarkScore(
        benchmark,
        "en",
        "acc",
        weight,
        names,
        tuple(groups) if groups is not None else names,
        tuple(float(value) for value in values),
    )


def clustered(generator, groups=60, benchmarks=3, effect=0.35):
    """Right-or-wrong items, one a group and benchmark, whose chance of 0.5 moves by +-effect with the group, in all
    benchmarks alike."""
    chance = 0.5 + effect * generator.choice([-1, 1], groups)
    names = [f"g{number}" for number in range(groups)]
    return [score(generator.random(groups) < chance, names, f"b{number}") for number in range(benchmarks)]


def test_right_or_wrong_items_have_wilsons_interval():
    found = benchmark_interval(score([1] * 8 + [0] * 2))
    # Wilson for 8 of 10 by its formula, z = 1.959964: centre (0.8 + z^2/20) / (1 + z^2/10), half width z sqrt(0.016 +
    # z^2/400) / (1 + z^2/10).
    z = 1.959964
    centre, half = (0.8 + z * z / 20) / (1 + z * z / 10), z * math.sqrt(0.016 + z * z / 400) / (1 + z * z / 10)
    assert (found.mean, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_graded_items_have_about_the_normal_interval():
    values = np.random.default_rng(0).random(400)
    found = benchmark_interval(score(values))
    error = values.std() / 20
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )


def test_items_repeated_within_a_group_do_not_narrow_the_interval():
    once = [1, 0] * 20
    names = [f"g{number}" for number in range(40)]
    ten = benchmark_interval(score(once * 10, names * 10))
    one = benchmark_interval(score(once))
    # Ten copies of 40 items are still 40 pieces of evidence; taken as 400 the interval would be a third as wide.
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.1)


def test_groups_that_are_all_right_still_have_an_interval():
    found = benchmark_interval(score([1] * 30, [f"g{number % 10}" for number in range(30)]))
    # Wilson for 10 of 10: low = 1 / (1 + z^2 / 10).
    assert (found.low, found.high) == pytest.approx((1 / (1 + 1.959964**2 / 10), 1.0), abs=1e-6)


def test_the_mean_is_over_benchmarks_by_weight_and_not_over_items():
    found = mean_interval([score([1] * 90 + [0] * 10, benchmark="large"), score([0, 1], benchmark="small", weight=3)])
    assert found.mean == pytest.approx((0.9 + 3 * 0.5) / 4)
    assert found.n == 102


def test_a_mean_of_benchmarks_that_are_all_right_or_all_wrong_has_an_interval_too():
    wrong, right = score([0] * 28, benchmark="a"), score([1] * 10, benchmark="b", weight=3.0)
    # Wilson for 0 of 28 is up to z^2 / (28 + z^2) = 0.1206; for 10 of 10 from 10 / (10 + z^2) = 0.7225.
    found = mean_interval([wrong, score([0] * 28, benchmark="c")])
    assert (found.mean, found.n) == (0, 56)
    assert (found.low, found.high) == pytest.approx((0, 0.1206), abs=1e-4)
    found = mean_interval([wrong, right])
    assert found.mean == 0.75
    assert (found.low, found.high) == pytest.approx((0.75 * 0.7225, 0.75 + 0.25 * 0.1206), abs=1e-4)


def test_intervals_of_shared_groups_cover_the_truth():
    # 60 groups in three benchmarks; 300 experiments. Resampling items instead of groups covers 80 % here.
    generator = np.random.default_rng(1)
    intervals = [mean_interval(clustered(generator), 500) for _ in range(300)]
    covered = np.mean([found.low <= 0.5 <= found.high for found in intervals])
    assert 0.91 <= covered <= 0.985


def test_an_interval_is_the_same_every_time():
    scores = clustered(np.random.default_rng(2))
    assert mean_interval(scores) == mean_interval(scores)
    assert paired(scores, clustered(np.random.default_rng(3))) == paired(scores, clustered(np.random.default_rng(3)))


def test_one_benchmark_is_compared_by_mcnemars_exact_test():
    first = score([1] * 9 + [0] * 2 + [1] * 20)
    second = score([0] * 9 + [1] * 2 + [1] * 20)
    found = paired([first], [second])
    # 11 items differ, 9 one way: 2 (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 134 / 2048.
    assert found.p_value == pytest.approx(134 / 2048)
    assert found.mean == pytest.approx(7 / 31)
    assert found.n == 31


def test_few_groups_are_compared_by_all_sign_flips():
    first, second = [0.9, 0.4, 0.8, 0.6, 0.7, 0.2], [0.5, 0.5, 0.1, 0.3, 0.5, 0.0]
    exact = stats.permutation_test(
        (np.array(first), np.array(second)),
        lambda x, y, axis: (x - y).sum(axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert paired([score(first)], [score(second)]).p_value == pytest.approx(exact.pvalue)


def test_sign_flips_are_of_the_weighted_mean_over_benchmarks():
    light, heavy, names = [0.8, 0.7, 0.9, 0.6, 0.5], [-0.1, 0.2, 0.3, -0.2, 0.1], [f"g{number}" for number in range(5)]
    zeros = [0.0] * 5
    found = paired(
        [score(light, names, "light"), score(heavy, names, "heavy", 3)],
        [score(zeros, names, "light"), score(zeros, names, "heavy", 3)],
    )
    shares = (0.25 * np.array(light) + 0.75 * np.array(heavy)) / 5
    exact = stats.permutation_test(
        (shares, np.zeros(5)), lambda x, y, axis: (x - y).sum(axis), permutation_type="samples", vectorized=True
    )
    assert found.mean == pytest.approx(shares.sum())
    assert found.p_value == pytest.approx(exact.pvalue)


def test_sampled_sign_flips_agree_with_mcnemar():
    generator = np.random.default_rng(4)
    first, second = generator.random(200) < 0.6, generator.random(200) < 0.5
    exact = paired([score(first)], [score(second)]).p_value
    # As two benchmarks that are each other's copies on the same groups: the same evidence, but no closed form.
    names = [f"g{number}" for number in range(200)]
    sampled = paired(*[[score(values, names, "a"), score(values, names, "b")] for values in (first, second)]).p_value
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_equal_models_do_not_differ():
    scores = clustered(np.random.default_rng(5))
    found = paired(scores, scores)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_models_that_differ_by_chance_are_seldom_called_different():
    generator = np.random.default_rng(6)
    results = [paired(clustered(generator), clustered(generator), 400) for _ in range(300)]
    # 5 % of 300, three standard errors of which are 3.8 %.
    assert np.mean([found.p_value < 0.05 for found in results]) < 0.09
    assert np.mean([found.low > 0 or found.high < 0 for found in results]) < 0.11


def test_a_model_that_is_much_better_is_called_better():
    generator = np.random.default_rng(7)
    found = 0
    for _ in range(50):
        hard = generator.random(200)
        better, worse = [score((hard + 0.2 * generator.random(200)) < bar, benchmark="b") for bar in (0.75, 0.55)]
        result = paired([better], [worse], 400)
        found += result.p_value < 0.05 and result.low > 0
    assert found >= 48


def test_models_judged_on_other_items_cannot_be_compared():
    with pytest.raises(ValueError, match="same items"):
        paired([score([1, 0])], [score([1, 0, 1])])
    with pytest.raises(ValueError, match="same items"):
        paired([], [])
