"""Spearman's correlation from summed counts, against scipy's on the numbers themselves."""

import random
import warnings

import numpy as np
import pytest

from psomerge.evals.metrics import corpus
from psomerge.evals.metrics.correlation import LEVELS, level, scores, statistics

NAME = corpus.SPEARMAN


def test_it_is_scipys_for_any_numbers_with_ties():
    from scipy.stats import spearmanr

    draw = random.Random(3)
    for count in (2, 5, 50, 400):
        gold = [draw.randrange(26) / 5 for _ in range(count)]
        said = [min(5.0, max(0.0, round((one + draw.gauss(0, 1)) * 5) / 5)) for one in gold]
        rows = [corpus.statistics(NAME, f"{b:.1f}", [f"{a:.1f}"]) for a, b in zip(gold, said, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = spearmanr(gold, said)[0]
        assert corpus.score(NAME, rows) == pytest.approx(max(0.0, np.nan_to_num(expected)), abs=1e-12)


def test_many_sums_at_once_are_the_same_numbers():
    draw = random.Random(4)
    rows = [
        np.array(statistics(f"{draw.randrange(26) / 5}", f"{draw.randrange(26) / 5}"), dtype=float) for _ in range(40)
    ]
    sums = np.stack([np.sum(rows[begin:], axis=0) for begin in range(0, 36, 4)])
    assert corpus.scores(NAME, sums) == pytest.approx(
        [corpus.score(NAME, rows[begin:]) for begin in range(0, 36, 4)], abs=1e-15
    )


def test_what_is_no_number_counts_as_0_and_others_stay_on_the_scale():
    # By hand: fifths of 5 from 0 to 25; nan would spread over the whole corpus.
    assert [
        level(text) for text in ("3.2", " 3.2 ", "5", "7", "-1", "", "very", "nan", "inf", "1e400", "0.1", "0.31")
    ] == [
        16,
        16,
        25,
        25,
        0,
        0,
        0,
        0,
        25,
        25,
        0,
        2,
    ]


def test_a_number_is_one_in_every_digits_and_with_a_full_stop():
    assert [level(text) for text in ("３．２", "٣.٢", "৩.২", "3.2.", "3,2", "3.2 or 4", "３")] == [
        16,
        16,
        16,
        16,
        16,
        0,
        15,
    ]


def test_an_order_that_is_right_scores_1_and_one_that_is_wrong_or_none_0():
    def of(*pairs: tuple[str, str]) -> float:
        return corpus.score(NAME, [statistics(prediction, reference) for reference, prediction in pairs])

    assert of(("1", "0.2"), ("2", "0.4"), ("3", "5")) == pytest.approx(1.0, abs=1e-12)
    assert of(("1", "3"), ("2", "2"), ("3", "1")) == 0.0
    assert of(("1", "yes"), ("2", "no"), ("3", "so")) == 0.0
    # Worked out: ranks 1, 2, 3 against 1, 3, 2 give 1 - 6 * 2 / (3 * 8).
    assert of(("1", "1"), ("2", "3"), ("3", "2")) == pytest.approx(0.5, abs=1e-12)


def test_an_item_alone_shows_how_near_it_is():
    assert corpus.sentence_score(NAME, statistics("3.0", "5.0")) == pytest.approx(0.6)
    assert corpus.sentence_score(NAME, statistics("1.4", "1.4")) == 1.0


def test_of_no_items_there_is_no_correlation():
    with pytest.raises(ValueError, match="of no items"):
        corpus.score(NAME, [])
    assert scores(np.zeros((1, LEVELS * LEVELS))).tolist() == [0.0]
