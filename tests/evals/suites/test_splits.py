"""Splits are functions of salt and group alone."""

import hashlib

import pytest

from psomerge.evals.suites.splits import position_of, split_of, subsample

SHARES = {"optimisation": 0.24, "validation": 0.14, "test": 0.36}


def test_a_group_falls_where_its_hash_lies_among_the_cumulative_shares():
    # Worked out from the digest by another route: its first 13 hex digits as a fraction.
    for group in ("territory:SO", "unit:acre", "Q7", "ñandú"):
        fraction = int(hashlib.sha256(f"salt|{group}".encode()).hexdigest()[:13], 16) / 16**13
        expected = (
            "optimisation"
            if fraction < 0.24
            else "validation"
            if fraction < 0.38
            else "test"
            if fraction < 0.74
            else None
        )
        assert split_of("salt", group, SHARES) == expected


def test_shares_are_met_by_many_groups():
    found = [split_of("salt", str(number), SHARES) for number in range(20_000)]
    # Three standard errors of a share near 0.3 over 20,000 draws are 0.01.
    for split, share in [*SHARES.items(), (None, 0.26)]:
        assert abs(found.count(split) / len(found) - share) < 0.01


def test_the_order_in_which_shares_are_given_does_not_matter():
    backwards = dict(reversed(SHARES.items()))
    assert all(split_of("s", str(n), SHARES) == split_of("s", str(n), backwards) for n in range(200))


def test_another_salt_splits_otherwise():
    assert [split_of("a", str(n), SHARES) for n in range(50)] != [split_of("b", str(n), SHARES) for n in range(50)]


def test_shares_that_fill_everything_leave_no_remainder():
    tenths = {
        "optimisation": 0.1,
        "validation": 0.2,
        "test": 0.7,
    }  # as floats in turn, 0.1 + 0.2 + 0.7 is 0.9999999999999999
    assert sum(split_of("s", str(n), tenths) is None for n in range(20_000)) == 0


@pytest.mark.parametrize(
    "shares", [{"train": 0.5}, {"test": 0.0}, {"test": 1.0}, {"optimisation": 0.6, "test": 0.5}, {"test": float("nan")}]
)
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="expected shares"):
        split_of("s", "g", shares)


def test_positions_are_uniform_and_never_reach_one():
    positions = sorted(position_of("u", str(n)) for n in range(2000))
    assert positions[0] >= 0
    assert positions[-1] < 1
    # Kolmogorov-Smirnov: the largest gap to the uniform line exceeds 1.95 / sqrt(n) with probability 0.001.
    assert max(abs(x - n / 2000) for n, x in enumerate(positions)) < 1.95 / 2000**0.5


def test_a_subsample_keeps_order_and_grows_by_adding():
    items = [f"item{n}" for n in range(40)]
    small, large = subsample("a", items, 7), subsample("a", items, 20)
    assert small == sorted(small)
    assert len(small) == 7
    assert set(small) < set(large)
    assert subsample("a", items, None) == subsample("a", items, 99) == list(range(40))


def test_a_subsample_depends_on_its_address_and_not_on_the_order_of_items():
    items = [f"item{n}" for n in range(40)]
    chosen = {items[index] for index in subsample("a", items, 7)}
    assert chosen == {items[::-1][index] for index in subsample("a", items[::-1], 7)}
    assert chosen != {items[index] for index in subsample("b", items, 7)}
