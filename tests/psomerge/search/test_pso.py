"""The swarm, each test the story of an implementation that would be wrong."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from psomerge.arithmetic.randomness import key32, uniform
from psomerge.errors import EngineError
from psomerge.search import starts
from psomerge.search.pso import Pso, Settings, factors
from psomerge.search.search import Address, Array, State, tell

LINE = np.array([[[0.0]], [[1.0]], [[3.0]]])  # three particles on a line: (3, 1, 1)
NEW = State(experts=1, groups=1)


def swarm(start: Array | Callable[[int, int], Array] = LINE, **settings: object) -> Pso:
    return Pso("made", start if callable(start) else lambda experts, groups: start, replace(Settings(), **settings))


def told(search: Pso, *steps: Sequence[float | None], state: State = NEW) -> State:
    """The state once these steps' fitness was told, particle by particle."""
    for fitness in steps:
        addressed = {Address(state.step, particle): one for particle, one in enumerate(fitness)}
        state = tell(state, search.ask(state), addressed)
    return state


def personal_fitness(state: State) -> list[float]:
    bests = state.bests
    particles = range(len(state.fitness[0]))
    return [state.fitness_at(bests[one]) if one in bests else float("-inf") for one in particles]


def personal_best(state: State) -> list[list[list[float]]]:
    return [state.position_at(one).tolist() for one in state.bests.values()]


def test_a_random_number_is_the_same_for_ever():
    # SHA-256 of the ASCII text ["swarm",1,2], first 8 bytes big-endian (sha256sum), shifted by 11 and divided by 2**53.
    assert uniform("swarm", 1, 2) == (0xD9A970BB37682D75 >> 11) / 2**53
    assert key32("swarm", 1, 2) == 0xD9A970BB


def test_addresses_that_look_alike_have_their_own_numbers():
    alike = [("a", 1, 2), ("a", 12), ("a", "12"), ("a12",), ("a", "1", "2"), ("a", 1, "2")]
    assert len({uniform(*address) for address in alike}) == len(alike)


def test_random_numbers_are_uniform():
    draws = np.array([uniform("test", i) for i in range(20000)])
    # Mean and variance of U(0, 1) are 1/2 and 1/12; the bounds are 5 standard errors of either.
    assert abs(draws.mean() - 0.5) < 5 * (1 / 12 / 20000) ** 0.5
    assert abs(draws.var() - 1 / 12) < 5 * (1 / 180 / 20000) ** 0.5
    assert draws.min() >= 0
    assert draws.max() < 1


def test_the_paper_swarm_is_base_then_experts_then_dare_copies():
    positions = starts.paper(2, 3)
    assert positions.shape == (5, 3, 4)
    assert positions[:, 1].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_star_swarm_is_base_then_experts_then_leaning_sums():
    positions = starts.star(4, 2)
    assert positions.shape == (9, 2, 4)
    assert positions[0].tolist() == [[0.0] * 4] * 2
    assert positions[3, 1].tolist() == [0, 0, 1, 0]
    assert positions[6, 1].tolist() == [0.5, 1.0, 0.5, 0.5]  # s = 2/4, u = 0.5


@pytest.mark.parametrize(("experts", "scale"), [(1, 1.0), (2, 1.0), (3, 2 / 3)])
def test_the_star_never_scales_an_expert_beyond_one_by_itself(experts: int, scale: float):
    assert starts.star(experts, 1, pull=0.0)[-1, 0].tolist() == [scale] * experts


def test_one_move_has_the_values_worked_out_by_hand():
    search = swarm(inertia=0.2, cognitive=2.0, social=2.0, seed=7)
    first = told(search, [0.1, 0.5, 0.3])
    # Every particle sits on its own personal best and velocities are zero: only the pull to the global best at 1 acts.
    social = [uniform("swarm", 7, 0, p, "social") for p in range(3)]
    expected = [0 + 2 * social[0] * (1 - 0), 1.0, 3 + 2 * social[2] * (1 - 3)]
    assert search.ask(first)[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-15)
    # Worse everywhere: bests stay. Now inertia and the pull back to the own best act as well.
    third = search.ask(told(search, [0.0, 0.0, 0.0], state=first))
    r1, r2, x, v = (
        uniform("swarm", 7, 1, 2, "cognitive"),
        uniform("swarm", 7, 1, 2, "social"),
        expected[2],
        expected[2] - 3,
    )
    assert third[2, 0, 0] == pytest.approx(x + 0.2 * v + 2 * r1 * (3 - x) + 2 * r2 * (1 - x), rel=1e-14)


def test_moves_have_the_bits_of_plain_ieee_arithmetic_in_the_documented_order():
    # The same in Python floats, which no compiler fuses or reorders.
    x, v = starts.star(3, 2).tolist(), np.zeros((7, 2, 3)).tolist()
    own, own_fitness, best, best_fitness = x, [-1.0] * 7, x[0], -1.0
    search, state = swarm(starts.star, seed=3), State(3, 2)
    for step in range(6):
        scores = [uniform("fitness", step, p) for p in range(7)]
        own = [x[p] if scores[p] > own_fitness[p] else own[p] for p in range(7)]
        own_fitness = [max(pair) for pair in zip(scores, own_fitness, strict=True)]
        if max(scores) > best_fitness:
            best, best_fitness = x[scores.index(max(scores))], max(scores)
        pull = [[2.0 * uniform("swarm", 3, step, p, term) for term in ("cognitive", "social")] for p in range(7)]
        each = [(p, g, d) for p in range(7) for g in range(2) for d in range(3)]
        flat = [
            0.2 * v[p][g][d] + pull[p][0] * (own[p][g][d] - x[p][g][d]) + pull[p][1] * (best[g][d] - x[p][g][d])
            for p, g, d in each
        ]
        v = np.reshape(flat, (7, 2, 3)).tolist()
        x = np.reshape([x[p][g][d] + v[p][g][d] for p, g, d in each], (7, 2, 3)).tolist()
        state = told(search, scores, state=state)
    assert search.ask(state).tolist() == x
    assert search.velocities(state).tolist() == v


def test_the_best_particle_is_the_best_not_the_first():
    assert told(swarm(), [0.1, 0.5, 0.3]).best == Address(0, 1)


def test_global_best_survives_a_worse_generation():
    state = told(swarm(), [0.1, 0.5, 0.3], [0.2, 0.4, 0.4])
    assert state.best_fitness == 0.5
    assert state.best == Address(0, 1)
    assert state.position_at(state.best).tolist() == [[1.0]]


def test_a_better_generation_replaces_the_global_best_and_says_where():
    search = swarm()
    first = told(search, [0.1, 0.5, 0.3])
    second = told(search, [0.6, 0.7, 0.4], state=first)
    assert second.best == Address(1, 1)
    assert second.position_at(second.best).tolist() == search.ask(first)[1].tolist()


def test_a_particle_keeps_its_own_best_not_its_last_position():
    search = swarm()
    first = told(search, [0.1, 0.5, 0.3])
    second = told(search, [0.2, 0.5, 0.1], state=first)
    assert personal_fitness(second) == [0.2, 0.5, 0.3]
    assert personal_best(second) == [[[search.ask(first)[0, 0, 0]]], [[1.0]], [[3.0]]]


def test_an_equal_fitness_replaces_no_best():
    search = swarm()
    first = told(search, [0.5, 0.1, 0.5])
    second = told(search, [0.5, 0.1, 0.5], state=first)
    assert first.best == second.best == Address(0, 0)
    assert personal_best(second) == LINE.tolist()


@pytest.mark.parametrize("failed", [None, float("nan"), float("inf"), float("-inf")])
def test_a_failed_judgement_is_worse_than_every_other(failed: float | None):
    state = told(swarm(), [failed, -0.5, 0.0])
    assert state.best == Address(0, 2)
    assert personal_fitness(state) == [float("-inf"), -0.5, 0.0]
    assert np.isnan(state.fitness[-1]).tolist() == [True, False, False]


def test_a_failed_judgement_does_not_wipe_out_an_earlier_best():
    state = told(swarm(), [0.1, 0.5, 0.3], [0.2, None, None])
    assert personal_fitness(state) == [0.2, 0.5, 0.3]
    assert state.best == Address(0, 1)


def test_where_every_judgement_failed_there_is_no_best():
    state = told(swarm(), [None, float("nan"), None])
    assert (state.best, state.best_fitness, state.bests) == (None, float("-inf"), {})
    assert (NEW.best, NEW.best_fitness, NEW.bests) == (None, float("-inf"), {})


def test_a_particle_that_always_failed_is_not_pulled_to_where_it_failed():
    first = told(swarm(), [None, 0.5, 0.3])
    position = swarm().ask(first)
    assert position[0, 0, 0] != 0.0  # the global best pulled it away
    # Were velocity and global best nothing, what is left is the pull to the own best.
    second = tell(first, position, {Address(1, 0): None, Address(1, 1): 0.1, Address(1, 2): 0.1})
    moved = swarm(inertia=0.0, cognitive=2.0, social=0.0).ask(second)
    assert moved[0, 0, 0] == position[0, 0, 0]
    assert moved[2, 0, 0] != position[2, 0, 0]  # particle 2 has a best behind it


def test_a_particle_recovers_after_a_failure():
    search = swarm()
    first = told(search, [None, 0.5, 0.3])
    recovered = told(search, [0.2, None, None], state=first)
    assert personal_fitness(recovered)[0] == 0.2
    assert personal_best(recovered)[0] == search.ask(first)[0].tolist()


def test_a_step_that_failed_as_a_whole_stops_the_search():
    search = swarm()
    with pytest.raises(EngineError, match="all 3 judgements of step 0 failed"):
        search.ask(told(search, [None, None, float("nan")]))
    with pytest.raises(EngineError, match="step 1"):
        search.ask(told(search, [0.1, 0.5, 0.3], [None, None, None]))


def test_a_swarm_does_not_move_before_it_is_told():
    search = swarm()
    assert search.ask(NEW).tolist() == search.ask(NEW).tolist() == LINE.tolist()
    moved = told(search, [0.1, 0.5, 0.3])
    assert search.ask(moved).tobytes() == search.ask(moved).tobytes()


def test_a_step_is_told_once():
    search = swarm()
    seen = told(search, [0.1, 0.5, 0.3])
    with pytest.raises(ValueError, match=r"of step 1, found .*step=0"):
        tell(seen, search.ask(seen), {Address(0, particle): 0.9 for particle in range(3)})


def test_every_particle_needs_its_fitness():
    with pytest.raises(ValueError, match="3 particles"):
        told(swarm(), [0.1, 0.5])


def test_the_particle_on_the_global_best_does_not_move():
    search = swarm()
    assert search.ask(told(search, [0.1, 0.5, 0.3]))[1].tobytes() == LINE[1].tobytes()


def test_factors_do_not_shift_when_a_judgement_fails_or_particles_or_groups_are_added():
    settings = Settings(seed=5)
    for term in ("cognitive", "social"):
        assert factors(settings, 0, (7, 5), term)[:3].tolist() == factors(settings, 0, (3, 1), term).tolist()
    # One particle, pulled alike whether or not another one's judgement fails.
    search = swarm(seed=5)
    sound, failing = told(search, [0.1, 0.5, 0.3]), told(search, [0.1, 0.5, None])
    assert search.ask(sound)[0].tolist() == search.ask(failing)[0].tolist()


def test_factors_per_group_do_not_depend_on_the_number_of_groups():
    grouped = Settings(factors="group", seed=5)
    few, many = (factors(grouped, 0, (3, groups), "social") for groups in (2, 4))
    assert many[:, :2].tolist() == few.tolist()


def test_every_seed_step_particle_group_and_term_draws_its_own_factor():
    draws = [
        factors(Settings(factors="group", seed=seed), step, (5, 2), term)
        for step in (0, 1)
        for seed in (0, 1)
        for term in ("cognitive", "social")
    ]
    assert len(set(np.concatenate(draws).ravel().tolist())) == 8 * 5 * 2


def test_one_factor_moves_all_groups_of_a_particle_alike_unless_drawn_per_group():
    new = State(experts=2, groups=3)
    together, apart = (
        search.ask(told(search, [0.1, 0.9, 0.2, 0.3, 0.4], state=new))[0]
        for search in (swarm(starts.paper), swarm(starts.paper, factors="group"))
    )
    assert together[0].tolist() == together[1].tolist() == together[2].tolist()
    assert len({row[0] for row in apart.tolist()}) == 3


def test_what_was_asked_and_told_cannot_be_changed_in_place():
    positions = LINE.copy()
    search = swarm(positions)
    asked, state = search.ask(NEW), told(search, [0.1, 0.5, 0.3])
    positions[0] = 9.0
    assert asked[0, 0, 0] == state.positions[0][0, 0, 0] == 0.0
    for array in (asked, *state.positions, *state.fitness, search.ask(state)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0


@pytest.mark.parametrize("positions", [np.zeros((3, 2)), np.zeros((0, 1, 2)), np.full((3, 1, 1), np.nan)])
def test_a_swarm_is_not_found_on_nonsense(positions: np.ndarray):
    with pytest.raises(ValueError, match="initial positions"):
        swarm(positions).ask(NEW)
