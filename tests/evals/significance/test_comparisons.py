"""Many tests do not cry wolf, what n could show is found as often as promised, and ranks follow the tests."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from psomerge.evals.metrics import corpus
from psomerge.evals.significance.comparisons import Contrast, Ranks, compare, compare_all, detectable, ranks
from psomerge.evals.significance.intervals import Difference, paired
from psomerge.evals.suites.scores import BenchmarkScore


def score(values, groups=None, benchmark="b", language="en", weight=1.0):
    names = tuple(f"i{number}" for number in range(len(values)))
    return BenchmarkScore(
        benchmark,
        language,
        "acc",
        weight,
        names,
        tuple(groups) if groups is not None else names,
        tuple(float(value) for value in values),
    )


def won(wins, losses, ties, benchmark="b", language="en"):
    """Two models' scores: so many items only the first got right, so many only the second, so many both."""
    first, second = [1] * wins + [0] * losses + [1] * ties, [0] * wins + [1] * losses + [1] * ties
    return score(first, None, benchmark, language), score(second, None, benchmark, language)


def apart(generator, items, gap, rate):
    """Two models that answer about `rate` of the items differently, with a true difference of `gap`."""
    draw = generator.random(items)
    first_alone, second_alone = draw < (rate + gap) / 2, (draw >= (rate + gap) / 2) & (draw < rate)
    return score(~second_alone), score(~first_alone)


def of_passages(generator, gap, groups=60):
    """Three benchmarks over the same passages, on each of which one model or the other is far better in all three
    alike."""
    names, lean = [f"g{number}" for number in range(groups)], 0.3 * generator.choice([-1, 1], groups)
    return tuple(
        [score(generator.random(groups) < 0.5 + sign * (lean + gap) / 2, names, f"b{n}") for n in range(3)]
        for sign in (1, -1)
    )


def test_languages_are_corrected_by_holm():
    # McNemar by hand: 8 of 8 one way 2 / 2^8 = 1/128; 7 of 7 1/64; 2 of 4 1. Times 3, 2 and 1.
    both = [won(8, 0, 30, "b1", "so"), won(2, 2, 30, "b2", "tk"), won(0, 7, 30, "b3", "eu")]
    found = compare([a for a, _ in both], [b for _, b in both], 400).languages
    assert [one.difference.p_value for one in found.values()] == pytest.approx([1 / 128, 1, 1 / 64])
    assert [one.corrected for one in found.values()] == pytest.approx([3 / 128, 1, 2 / 64])
    assert {language: one.verdict for language, one in found.items()} == {
        "so": "better",
        "tk": "no difference shown",
        "eu": "worse",
    }
    assert {one.tests for one in found.values()} == {3}


def test_what_is_significant_alone_may_be_noise_among_many():
    # 6 of 6 one way: p = 2 / 2^6 = 0.03125, which four tests make 0.125.
    both = [won(6, 0, 30, "b0", "l0"), *[won(2, 2, 30, f"b{n}", f"l{n}") for n in range(1, 4)]]
    found = compare([a for a, _ in both], [b for _, b in both], 400).languages["l0"]
    assert (found.difference.p_value, found.corrected) == (pytest.approx(0.03125), pytest.approx(0.125))
    assert found.verdict == "no difference shown"


def test_a_language_holds_all_its_benchmarks_by_weight():
    first = [
        score([1, 1, 0, 1], benchmark="b1", language="so"),
        score([1, 0], benchmark="b2", language="so", weight=3),
        score([1, 0], benchmark="b3"),
    ]
    second = [
        score([1, 0, 0, 0], benchmark="b1", language="so"),
        score([0, 0], benchmark="b2", language="so", weight=3),
        score([1, 0], benchmark="b3"),
    ]
    found = compare(first, second, 400)
    assert list(found.benchmarks) == ["b1", "b2", "b3"]
    # (1 * 0.5 + 3 * 0.5) / 4 over 6 items; the other language is equal.
    assert {tag: (one.difference.mean, one.difference.n) for tag, one in found.languages.items()} == {
        "so": (pytest.approx(0.5), 6),
        "en": (0, 2),
    }


def test_a_family_so_large_that_sampled_tests_could_never_pass_gets_more_resamples():
    # Graded items have no exact test: from 100 resamples the smallest p-value is 1/101, ten times which is above 5 %.
    generator = np.random.default_rng(0)
    both = [
        (
            score(0.5 + 0.5 * generator.random(30), benchmark=f"b{n}"),
            score(0.5 * generator.random(30), benchmark=f"b{n}"),
        )
        for n in range(10)
    ]
    found = compare([a for a, _ in both], [b for _, b in both], 100).benchmarks
    assert {one.verdict for one in found.values()} == {"better"}


@pytest.mark.heavy
def test_equal_models_are_seldom_called_different_in_any_of_ten_languages():
    generator = np.random.default_rng(1)

    def any_difference():
        both = [
            (
                score(generator.random(40) < 0.5, None, f"b{n}", f"l{n}"),
                score(generator.random(40) < 0.5, None, f"b{n}", f"l{n}"),
            )
            for n in range(10)
        ]
        found = compare([a for a, _ in both], [b for _, b in both], 100).languages.values()
        return [
            any(one.verdict != "no difference shown" for one in found),
            any(one.difference.p_value < 0.05 for one in found),
        ]

    corrected, alone = np.mean([any_difference() for _ in range(120)], axis=0)
    # Three standard errors of 5 % in 120 experiments are 6 %. Without the correction McNemar's test, at its true 3 %
    # here, gives 1 - 0.97^10 = 26 %.
    assert corrected < 0.11
    assert alone > 0.15


@pytest.mark.heavy
def test_equal_models_are_seldom_ranked_apart():
    generator = np.random.default_rng(2)

    def apart_from_any():
        pairs = compare_all({label: [score(generator.random(60) < 0.5)] for label in "abcd"}, 100)
        return any(place != Ranks(1, 4) for place in ranks("abcd", pairs).values())

    assert np.mean([apart_from_any() for _ in range(100)]) < 0.115  # 5 % + three standard errors


@pytest.mark.parametrize(("items", "rate", "tests"), [(50, 0.4, 1), (200, 0.3, 1), (200, 0.3, 20)])
def test_a_difference_that_can_be_shown_is_found_in_four_of_five_experiments(items, rate, tests):
    # The promised difference, from items answered apart at the true rate; then how often McNemar's test, called
    # directly, finds it.
    level, found = 0.05 / tests, Difference(0, 0, 0, 1, items)
    gap = detectable(
        [score([1] * items)], [score([0] * round(items * rate) + [1] * round(items * (1 - rate)))], found, level
    )
    assert gap is not None
    generator = np.random.default_rng(3)
    hits = []
    for _ in range(800):
        first, second = (np.array(one.values) for one in apart(generator, items, gap, rate))
        wins, losses = int(np.sum(first > second)), int(np.sum(first < second))
        hits.append(wins > losses and mcnemar([[0, wins], [losses, 0]], exact=True).pvalue < level)  # pyright: ignore[reportAttributeAccessIssue]
    # Three standard errors of 80 % in 800 experiments are 4.2 %.
    assert np.mean(hits) == pytest.approx(0.8, abs=0.043)


def test_a_difference_over_shared_passages_is_found_in_four_of_five_experiments():
    generator = np.random.default_rng(4)
    pilots = [of_passages(generator, 0.18) for _ in range(40)]
    gap = float(np.mean([detectable(*pilot, paired(*pilot, 400)) for pilot in pilots]))
    results = [paired(*of_passages(generator, gap), 400) for _ in range(500)]
    # Three standard errors of 80 % in 500 experiments are 5.4 %. With the items taken as independent, it would be found
    # in two of three.
    assert np.mean([found.p_value < 0.05 and found.mean > 0 for found in results]) == pytest.approx(0.8, abs=0.054)


def test_a_difference_of_a_corpus_metric_is_found_in_four_of_five_experiments():
    # Texts of made-up words of which each model gets some wrong; the true difference is chrF's over all 500, an
    # experiment draws 64 of them.
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghijklmnop"), generator.integers(2, 8))) for _ in range(300)]
    texts = [list(generator.choice(words, generator.integers(4, 16))) for _ in range(500)]

    def judged(text, rate):
        wrong = generator.random(len(text)) < 2 * rate * generator.random()
        answer = " ".join(generator.choice(words) if bad else word for word, bad in zip(text, wrong, strict=True))
        return corpus.statistics("chrf", answer, [" ".join(text)])

    rows = [np.array([judged(text, rate) for text in texts]) for rate in (0.24, 0.4)]
    truth = corpus.score("chrf", rows[0]) - corpus.score("chrf", rows[1])

    def experiment():
        drawn = generator.integers(500, size=64)
        first, second = (
            [replace(score([0.5] * 64), corpus="chrf", statistics=tuple(map(tuple, own[drawn])))] for own in rows
        )
        found = paired(first, second, 400)
        return [detectable(first, second, found), found.p_value < 0.05 and found.mean > 0]

    promised, power = np.mean([experiment() for _ in range(400)], axis=0)
    assert promised == pytest.approx(
        truth, rel=0.06
    )  # of 64 texts, which are so many that the true difference is the one promised
    assert power == pytest.approx(0.8, abs=0.06)  # three standard errors


def test_many_groups_have_the_formula_with_z():
    generator = np.random.default_rng(5)
    first, second = [score(0.5 + 0.1 * generator.random(2000))], [score(0.5 + 0.1 * generator.random(2000))]
    error = np.subtract(first[0].values, second[0].values).std() / math.sqrt(2000)
    # Card et al., Miller: (1.960 + 0.842) SE at 5 %, (3.023 + 0.842) SE at 5 % / 20.
    found = paired(first, second, 2000)
    assert detectable(first, second, found) == pytest.approx(2.802 * error, rel=0.05)
    assert detectable(first, second, found, 0.0025) == pytest.approx(3.865 * error, rel=0.05)


def test_items_that_all_agree_could_still_have_shown_only_so_much():
    # Two equal models on 50 items have no spread, but McNemar needs 6 items one way (2 / 2^6 < 5 %): P(X >= 6) = 80 %
    # for X of 50 items.
    found = detectable(*[[score([1, 0] * 25)]] * 2, Difference(0, 0, 0, 1, 50))
    assert found is not None
    assert stats.binom.sf(5, 50, found) == pytest.approx(0.8, abs=1e-3)


def test_passages_without_spread_count_as_items():
    names = [f"g{number % 50}" for number in range(100)]
    grouped, alone = [score([1, 0] * 50, names)], [score([1, 0] * 25)]
    assert detectable(grouped, grouped, paired(grouped, grouped, 100)) == detectable(
        alone, alone, paired(alone, alone, 100)
    )


@pytest.mark.parametrize("values", [[1, 0, 1, 0, 1], [0.9, 0.3, 0.8, 0.2, 0.6]])
def test_five_items_can_show_nothing(values):
    # All five one way have p = 2 / 2^5 = 0.0625.
    first, second = [score(values)], [score([0, 0.1, 0, 0, 0.2] if 0.9 in values else [0] * 5)]
    assert detectable(first, second, paired(first, second, 100)) is None


def test_the_level_to_reach_counts_the_languages_not_yet_called_different():
    # Of three languages one is called different: Holm tests the other two at 5 % / 2, and had that one to pass 5 % / 3.
    both = [won(20, 0, 30, "b0", "l0"), won(5, 5, 40, "b1", "l1"), won(5, 5, 40, "b2", "l2")]
    found = compare([a for a, _ in both], [b for _, b in both], 400).languages
    for (first, second), one, level in zip(both, found.values(), (0.05 / 3, 0.05 / 2, 0.05 / 2), strict=True):
        assert one.detectable_corrected == detectable([first], [second], one.difference, level)
        assert one.detectable == detectable([first], [second], one.difference, 0.05)
        assert one.detectable is not None
        assert one.detectable_corrected is not None
        assert one.detectable < one.detectable_corrected


def test_ranks_count_the_models_that_are_better_and_worse():
    def tested(verdict):
        return Contrast(Difference(0, 0, 0, 1, 1), 1, 1, verdict, None, None)

    # a beats c only, and d is beaten by all: b may be first, and c second beside b.
    worse = {("c", "a"), ("d", "a"), ("d", "b"), ("d", "c")}
    pairs = {
        (x, y): tested("worse" if (x, y) in worse else "better" if (y, x) in worse else "no difference shown")
        for x in "abcd"
        for y in "abcd"
        if x != y
    }
    assert ranks("abcd", pairs) == {"a": Ranks(1, 2), "b": Ranks(1, 3), "c": Ranks(2, 3), "d": Ranks(4, 4)}


def test_one_model_alone_is_first():
    assert ranks(["a"], compare_all({"a": [score([1, 0])]})) == {"a": Ranks(1, 1)}


def test_all_pairs_are_one_family_and_mirror_each_other():
    first, second = won(12, 1, 20)
    found = compare_all({"a": [first], "b": [second], "c": [first]}, 400)
    # McNemar: 2 (1 + 13) / 2^13, twice; a and c are equal. Holm: times 3, and then no less.
    p_value = 2 * 14 / 2**13
    assert [found[pair].corrected for pair in (("a", "b"), ("b", "c"), ("a", "c"))] == pytest.approx(
        [3 * p_value, 3 * p_value, 1]
    )
    assert (found["a", "b"].verdict, found["b", "a"].verdict, found["c", "a"].verdict) == (
        "better",
        "worse",
        "no difference shown",
    )
    one, other = found["a", "b"].difference, found["b", "a"].difference
    assert (other.mean, other.low, other.high) == (-one.mean, -one.high, -one.low)


def test_models_judged_on_other_items_cannot_be_compared():
    with pytest.raises(ValueError, match="same items"):
        compare([score([1, 0])], [score([1, 0]), score([1, 0], benchmark="c")])
    with pytest.raises(ValueError, match="same items"):
        compare([score([1, 0])], [score([1, 0, 1])])
