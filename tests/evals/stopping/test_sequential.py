"""The sequential test gives up a model that would have won no more often than it says, by enumeration and by
simulation, and gives up losers early."""

import random
from itertools import permutations

import pytest

from psomerge.evals.stopping.sequential import Bet, Draw, SequentialTest

PAIRED = [Draw(((0, number),), -1.0, 1.0) for number in range(1000)]


def ended(strata: list[list[float]], error_rate: float, spare: float = 0.0, draws: list[Draw] = PAIRED) -> int | None:
    """After how many differences, in this order, a model is given up."""
    test = SequentialTest([draws[: len(stratum)] for stratum in strata], spare, error_rate)
    for count, difference in enumerate((one for stratum in strata for one in stratum), 1):
        test.add(difference)
        if test.given_up:
            return count
    assert test.next is None
    return None


def population(number: int, losses: int, gains: int) -> list[float]:
    return [-1.0] * losses + [1.0] * gains + [0.0] * (number - losses - gains)


def shuffled(values: list[float], draw: random.Random) -> list[float]:
    return draw.sample(values, len(values))


def test_the_wealth_follows_the_bets_by_hand() -> None:
    bet = Bet(4, 0.0, -1.0, 1.0)
    # The first value is expected to be 0 / 4, and nothing is known that could be bet on.
    bet.add(-1.0)
    assert bet.wealth == 1.0
    # The other three must make good for 1: 1/3 each. Seen: -1, and as if one at 1/3: mean -1/3, variance (1 + 1/9 + 1)
    # / 2 - 1/9 = 17/18; behind by 2/3.
    stake = (2 / 3) / (17 / 18 + 4 / 9)
    assert stake < 0.5 / (1 - 1 / 3)
    bet.add(0.0)
    assert bet.wealth == pytest.approx(1 + stake / 3)


@pytest.mark.parametrize(
    "values",
    [
        (-1, -1, -1, 1, 1, 1),
        (-1, -1, 0, 0, 1, 1),
        (-1, -1, -0.5, 0.5, 1, 1),
        (-1, 0, 0, 0, 0, 1),
        (-0.25, -0.25, -0.25, 0.75),
    ],
)
@pytest.mark.parametrize("error_rate", [0.05, 0.2, 0.5])
def test_over_all_orders_of_a_population_that_just_reaches_what_is_claimed_the_wealth_is_one_on_average(
    values: tuple[float, ...], error_rate: float
) -> None:
    orders = list(permutations(values))
    for count in range(1, len(values) + 1):
        wealths = []
        for order in orders:
            bet = Bet(len(values), sum(values), -1.0, 1.0)
            for value in order[:count]:
                bet.add(value)
            wealths.append(bet.wealth)
        assert min(wealths) > 0
        assert sum(wealths) / len(orders) == pytest.approx(1)  # a fair game
    assert sum(ended([list(order)], error_rate) is not None for order in orders) <= error_rate * len(orders)


@pytest.mark.parametrize("error_rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize(
    ("number", "losses", "gains"), [(100, 5, 6), (280, 28, 29), (280, 0, 1), (280, 120, 121), (1000, 100, 101)]
)
def test_a_model_that_wins_by_one_item_is_given_up_no_more_often_than_the_error_rate(
    number: int, losses: int, gains: int, error_rate: float
) -> None:
    draw, rounds = random.Random(number + losses), 1000
    wrong = sum(
        ended([shuffled(population(number, losses, gains), draw)], error_rate) is not None for _ in range(rounds)
    )
    assert wrong <= rounds * error_rate + 3 * (rounds * error_rate * (1 - error_rate)) ** 0.5


def test_unequal_worths_and_two_strata_keep_the_error_rate() -> None:
    # One benchmark of 20 items that weighs as much as one of 200; then 60 texts, scored in tenths. The model wins by a
    # hair in all.
    draw, rounds, error_rate = random.Random(0), 1000, 0.05
    worths = [1 / 20] * 20 + [1 / 200] * 200
    first = [worth * value for worth, value in zip(worths, population(20, 5, 3) + population(200, 40, 30), strict=True)]
    second = [round(draw.uniform(-0.5, 0.5), 1) / 60 for _ in range(60)]
    second[0] += 1e-9 - sum(first) - sum(second)
    wrong = 0
    for _ in range(rounds):
        places, texts = draw.sample(range(220), 220), shuffled(second, draw)
        strata = [
            [Draw(((0, place),), -worths[place], worths[place]) for place in places],
            [Draw(((1, 0),), -1 / 60, 1 / 60)] * 59 + [Draw((), -1.0, 1.0)],
        ]
        test = SequentialTest(strata, 0.0, error_rate)
        for difference in [first[place] for place in places] + texts:
            test.add(difference)
        wrong += test.given_up
    assert wrong <= rounds * error_rate + 3 * (rounds * error_rate) ** 0.5


@pytest.mark.parametrize(
    ("losses", "gains", "most"), [(300, 100, 0.15), (200, 100, 0.3), (120, 80, 0.65), (50, 0, 0.3)]
)
def test_a_loser_is_given_up_and_the_sooner_the_more_it_loses(losses: int, gains: int, most: float) -> None:
    draw = random.Random(0)
    counts = [ended([shuffled(population(1000, losses, gains), draw)], 0.05) for _ in range(50)]
    assert None not in counts
    assert sum(count or 0 for count in counts) / len(counts) < most * 1000


def test_what_can_be_gained_elsewhere_keeps_a_loser_in_the_race() -> None:
    losing = shuffled(population(1000, 200, 100), random.Random(0))
    alone, later, spare = ended([losing], 0.05), ended([losing, [0.0] * 100], 0.05), ended([losing], 0.05, spare=100.0)
    assert alone is not None
    assert alone < 400
    assert later is None or later > alone
    assert spare is None or spare > alone
    # The second stratum begins with what was lost in the first.
    assert 20 < (ended([[-1.0] * 5 + [1.0] * 5 + [-1.0] * 10, [0.0] * 40], 0.05) or 0) < 40
    assert ended([[-1.0] * 5 + [1.0] * 5 + [0.0] * 10, [0.0] * 40], 0.05) is None


def test_a_population_that_cannot_lose_is_never_given_up() -> None:
    never = [Draw(((0, number),), 0.0, 1.0) for number in range(50)]
    assert ended([[0.0] * 49 + [1.0]], 0.05, draws=never) is None
    assert SequentialTest([], 0.0, 0.05).next is None
