"""Intervals and tests of corpus metrics are those that scoring every draw, and every exchange, of the texts themselves
gives."""

import math
import random
from itertools import product

import numpy as np
import pytest

from made.translations import heard, judged, of_texts, pairs
from psomerge.evals.significance.intervals import benchmark_interval, mean_interval, paired
from psomerge.evals.suites.scores import BenchmarkScore


def test_the_interval_is_that_of_all_draws_of_the_texts():
    # Five passages of three items: all 5^5 = 3125 draws, each scored by sacrebleu from its texts.
    predictions, asked = pairs(15, seed=3)
    found = benchmark_interval(judged("bleu", predictions, asked, [f"p{n // 3}" for n in range(15)]), 40_000)
    drawn = []
    for groups in product(range(5), repeat=5):
        items = [3 * group + part for group in groups for part in range(3)]
        drawn.append(of_texts("bleu", [predictions[n] for n in items], [asked[n] for n in items]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.mean, found.n) == (of_texts("bleu", predictions, asked), 15)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01 * (high - low))


def test_the_interval_of_a_mixed_mean_draws_a_passage_for_both_kinds_at_once():
    predictions, asked = pairs(5, seed=4)
    right, names = [1.0, 0.0, 0.0, 1.0, 1.0], tuple("vwxyz")
    means = BenchmarkScore("acc", "en", "acc", 3.0, names, names, tuple(right))
    found = mean_interval([judged("chrf++", predictions, asked, names), means], 40_000)
    drawn = [
        (
            of_texts("chrf++", [predictions[n] for n in groups], [asked[n] for n in groups])
            + 3 * sum(right[n] for n in groups) / 5
        )
        / 4
        for groups in product(range(5), repeat=5)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.mean == pytest.approx((of_texts("chrf++", predictions, asked) + 3 * 0.6) / 4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01 * (high - low))


def exchanged(
    first: list[str], second: list[str], groups: list[int], swapped: tuple[int, ...]
) -> tuple[list[str], list[str]]:
    mine = [b if swapped[group] else a for a, b, group in zip(first, second, groups, strict=True)]
    return mine, [a if swapped[group] else b for a, b, group in zip(first, second, groups, strict=True)]


@pytest.mark.parametrize("metric", ["bleu", "chrf", "chrf++"])
def test_few_passages_are_compared_by_all_exchanges_of_their_texts(metric):
    (first, asked), groups = pairs(16, seed=7), [n // 2 for n in range(16)]
    second = [heard(random.Random(n), listed[0], 0.45) for n, listed in enumerate(asked)]
    names = [f"p{group}" for group in groups]
    found = paired([judged(metric, first, asked, names)], [judged(metric, second, asked, names)])
    differences = [
        of_texts(metric, mine, asked) - of_texts(metric, theirs, asked)
        for mine, theirs in (exchanged(first, second, groups, swapped) for swapped in product((0, 1), repeat=8))
    ]
    expected = np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12)
    assert found.mean == pytest.approx(differences[0], abs=1e-15)
    assert 2 / 256 < found.p_value == expected < 1


def test_mixed_means_are_compared_by_exchanges_of_a_passage_in_both_kinds_at_once():
    (first, asked), groups = pairs(7, seed=9), list(range(7))
    second = [heard(random.Random(n), listed[0], 0.5) for n, listed in enumerate(asked)]
    right, other = np.array([1, 1, 0, 1, 1, 0, 1.0]), np.array([1, 0, 1, 0, 1, 0, 0.0])
    names = tuple("abcdefg")
    means = [BenchmarkScore("acc", "en", "acc", 0.5, names, names, tuple(values)) for values in (right, other)]
    found = paired([judged("chrf", first, asked, names), means[0]], [judged("chrf", second, asked, names), means[1]])
    differences = []
    for swapped in product((0, 1), repeat=7):
        mine, theirs = exchanged(first, second, groups, swapped)
        signs = 1 - 2 * np.array(swapped)
        differences.append(
            (of_texts("chrf", mine, asked) - of_texts("chrf", theirs, asked) + 0.5 * np.mean(signs * (right - other)))
            / 1.5
        )
    assert found.mean == pytest.approx(differences[0], abs=1e-15)
    assert found.p_value == np.mean(np.abs(differences) >= abs(differences[0]) - 1e-12) < 1


def test_sampled_exchanges_agree_with_all_of_them():
    first, asked = pairs(13, seed=10)
    second = [heard(random.Random(n), listed[0], 0.55) for n, listed in enumerate(asked)]
    scores = [[judged("bleu", texts, asked)] for texts in (first, second)]
    exact = paired(*scores).p_value  # 2^13 = 8192 ways
    assert paired(*scores, 4_000).p_value == pytest.approx(
        exact, abs=4 * math.sqrt(exact * (1 - exact) / 4_000) + 1 / 4_000
    )


def test_a_model_does_not_differ_from_itself_in_a_corpus_metric():
    predictions, asked = pairs(12)
    found = paired([judged("bleu", predictions, asked)], [judged("bleu", predictions, asked)])
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_better_translator_is_called_better_and_an_equal_one_seldom():
    better = equal = 0
    for seed in range(40):
        first, asked = pairs(60, seed=seed, share=0.7)
        rivals = [
            [heard(random.Random(f"{seed} {n} {share}"), listed[0], share) for n, listed in enumerate(asked)]
            for share in (0.4, 0.7)
        ]
        mine, worse, alike = ([judged("chrf", texts, asked)] for texts in (first, *rivals))
        better += paired(mine, worse, 300).p_value < 0.05
        equal += paired(mine, alike, 300).p_value < 0.05
    # 5 % of 40 are 2; six or more come by chance 14 times in 1,000.
    assert (better, equal < 6) == (40, True)


def test_models_with_other_metrics_cannot_be_compared():
    predictions, asked = pairs(3)
    score = judged("bleu", predictions, asked)
    with pytest.raises(ValueError, match="same items"):
        paired([score], [judged("chrf", predictions, asked)])
