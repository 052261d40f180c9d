"""The swarm, each test the story of an implementation that would be wrong."""

import dataclasses

import numpy as np
import pytest

from psomerge.arithmetic.randomness import key32, uniform
from psomerge.errors import EngineError
from psomerge.search import pso
from psomerge.search.pso import Address, Update

LINE = np.array([[[0.0]], [[1.0]], [[3.0]]])  # three particles on a line: (3, 1, 1)


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
    positions = pso.paper(2, 3)
    assert positions.shape == (5, 3, 4)
    assert positions[:, 1].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_the_star_swarm_is_base_then_experts_then_leaning_sums():
    positions = pso.star(4, 2)
    assert positions.shape == (9, 2, 4)
    assert positions[0].tolist() == [[0.0] * 4] * 2
    assert positions[3, 1].tolist() == [0, 0, 1, 0]
    assert positions[6, 1].tolist() == [0.5, 1.0, 0.5, 0.5]  # s = 2/4, u = 0.5


@pytest.mark.parametrize(("experts", "scale"), [(1, 1.0), (2, 1.0), (3, 2 / 3)])
def test_the_star_never_scales_an_expert_beyond_one_by_itself(experts: int, scale: float):
    assert pso.star(experts, 1, pull=0.0)[-1, 0].tolist() == [scale] * experts


def test_one_move_has_the_values_worked_out_by_hand():
    update = Update(inertia=0.2, cognitive=2.0, social=2.0)
    first = pso.observe(pso.found(LINE), [0.1, 0.5, 0.3])
    second = pso.move(first, update, seed=7)
    # Every particle sits on its own personal best and velocities are zero: only the pull to the global best at 1 acts.
    social = [uniform("swarm", 7, 0, p, "social") for p in range(3)]
    expected = [0 + 2 * social[0] * (1 - 0), 1.0, 3 + 2 * social[2] * (1 - 3)]
    assert second.positions[:, 0, 0].tolist() == pytest.approx(expected, rel=1e-15)
    # Worse everywhere: bests stay. Now inertia and the pull back to the own best act as well.
    third = pso.move(pso.observe(second, [0.0, 0.0, 0.0]), update, seed=7)
    r1, r2, x, v = (
        uniform("swarm", 7, 1, 2, "cognitive"),
        uniform("swarm", 7, 1, 2, "social"),
        expected[2],
        expected[2] - 3,
    )
    assert third.positions[2, 0, 0] == pytest.approx(x + 0.2 * v + 2 * r1 * (3 - x) + 2 * r2 * (1 - x), rel=1e-14)


def test_moves_have_the_bits_of_plain_ieee_arithmetic_in_the_documented_order():
    # The same in Python floats, which no compiler fuses or reorders.
    x, v = pso.star(3, 2).tolist(), np.zeros((7, 2, 3)).tolist()
    own, own_fitness, best, best_fitness = x, [-1.0] * 7, x[0], -1.0
    swarm = pso.found(pso.star(3, 2))
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
        swarm = pso.move(pso.observe(swarm, scores), Update(), seed=3)
    assert swarm.positions.tolist() == x
    assert swarm.velocities.tolist() == v


def test_the_best_particle_is_the_best_not_the_first():
    assert pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]).global_address == Address(0, 1)


def test_global_best_survives_a_worse_generation():
    first = pso.observe(pso.found(LINE), [0.1, 0.5, 0.3])
    second = pso.observe(pso.move(first, Update(), seed=0), [0.2, 0.4, 0.4])
    assert second.global_fitness == 0.5
    assert second.global_address == Address(0, 1)
    assert second.global_best is not None
    assert second.global_best.tolist() == [[1.0]]


def test_a_better_generation_replaces_the_global_best_and_says_where():
    first = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    second = pso.observe(first, [0.6, 0.7, 0.4])
    assert second.global_address == Address(1, 1)
    assert second.global_best is not None
    assert second.global_best.tolist() == first.positions[1].tolist()


def test_a_particle_keeps_its_own_best_not_its_last_position():
    first = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    second = pso.observe(first, [0.2, 0.5, 0.1])
    assert second.personal_fitness.tolist() == [0.2, 0.5, 0.3]
    assert second.personal_best[:, 0, 0].tolist() == [first.positions[0, 0, 0], 1.0, 3.0]


def test_an_equal_fitness_replaces_no_best():
    first = pso.move(pso.observe(pso.found(LINE), [0.5, 0.1, 0.5]), Update(), seed=0)
    second = pso.observe(first, [0.5, 0.1, 0.5])
    assert first.global_address == second.global_address == Address(0, 0)
    assert second.personal_best.tolist() == LINE.tolist()


@pytest.mark.parametrize("failed", [None, float("nan"), float("inf"), float("-inf")])
def test_a_failed_judgement_is_worse_than_every_other(failed: float | None):
    swarm = pso.observe(pso.found(LINE), [failed, -0.5, 0.0])
    assert swarm.global_address == Address(0, 2)
    assert swarm.personal_fitness.tolist() == [float("-inf"), -0.5, 0.0]
    assert swarm.fitness is not None
    assert np.isnan(swarm.fitness).tolist() == [True, False, False]


def test_a_failed_judgement_does_not_wipe_out_an_earlier_best():
    first = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    second = pso.observe(first, [0.2, None, None])
    assert second.personal_fitness.tolist() == [0.2, 0.5, 0.3]
    assert second.global_address == Address(0, 1)


def test_a_particle_that_always_failed_is_not_pulled_to_where_it_failed():
    update = Update(inertia=0.0, cognitive=2.0, social=0.0)
    swarm = pso.move(pso.observe(pso.found(LINE), [None, 0.5, 0.3]), Update(), seed=0)
    assert swarm.positions[0, 0, 0] != 0.0  # the global best pulled it away
    moved = pso.move(pso.observe(swarm, [None, 0.1, 0.1]), update, seed=0)
    assert moved.positions[0, 0, 0] == swarm.positions[0, 0, 0]
    assert moved.positions[2, 0, 0] != swarm.positions[2, 0, 0]  # particle 2 has a best behind it


def test_a_particle_recovers_after_a_failure():
    swarm = pso.move(pso.observe(pso.found(LINE), [None, 0.5, 0.3]), Update(), seed=0)
    recovered = pso.observe(swarm, [0.2, None, None])
    assert recovered.personal_fitness[0] == 0.2
    assert recovered.personal_best[0].tolist() == swarm.positions[0].tolist()


def test_a_step_that_failed_as_a_whole_stops_the_search():
    with pytest.raises(EngineError, match="all 3 judgements of step 0 failed"):
        pso.move(pso.observe(pso.found(LINE), [None, None, float("nan")]), Update(), seed=0)
    later = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    with pytest.raises(EngineError, match="step 1"):
        pso.move(pso.observe(later, [None, None, None]), Update(), seed=0)


def test_a_swarm_does_not_move_before_it_is_observed():
    with pytest.raises(ValueError, match="not observed"):
        pso.move(pso.found(LINE), Update(), seed=0)
    moved = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    with pytest.raises(ValueError, match="not observed"):
        pso.move(moved, Update(), seed=0)


def test_a_step_is_observed_once():
    seen = pso.observe(pso.found(LINE), [0.1, 0.5, 0.3])
    with pytest.raises(ValueError, match="observed before"):
        pso.observe(seen, [0.1, 0.5, 0.9])


def test_every_particle_needs_its_fitness():
    with pytest.raises(ValueError, match="3 particles"):
        pso.observe(pso.found(LINE), [0.1, 0.5])


def test_the_particle_on_the_global_best_does_not_move():
    moved = pso.move(pso.observe(pso.found(LINE), [0.1, 0.5, 0.3]), Update(), seed=0)
    assert moved.positions[1].tobytes() == LINE[1].tobytes()


def test_factors_do_not_shift_when_a_judgement_fails_or_particles_or_groups_are_added():
    few, many = pso.found(pso.paper(1, 1)), pso.found(pso.paper(3, 5))
    failing = pso.observe(few, [0.1, None, None])
    for term in ("cognitive", "social"):
        expected = pso.factors(few, Update(), 5, term)
        assert pso.factors(many, Update(), 5, term)[:3].tolist() == expected.tolist()
        assert pso.factors(failing, Update(), 5, term).tolist() == expected.tolist()


def test_factors_per_group_do_not_depend_on_the_number_of_groups():
    grouped = Update(factors="group")
    few, many = pso.found(pso.paper(1, 2)), pso.found(pso.paper(1, 4))
    assert pso.factors(many, grouped, 5, "social")[:, :2].tolist() == pso.factors(few, grouped, 5, "social").tolist()


def test_every_seed_step_particle_group_and_term_draws_its_own_factor():
    start = pso.found(pso.paper(2, 2))
    later = dataclasses.replace(start, step=1)
    draws = [
        pso.factors(swarm, Update(factors="group"), seed, term)
        for swarm in (start, later)
        for seed in (0, 1)
        for term in ("cognitive", "social")
    ]
    assert len(set(np.concatenate(draws).ravel().tolist())) == 8 * 5 * 2


def test_one_factor_moves_all_groups_of_a_particle_alike_unless_drawn_per_group():
    seen = pso.observe(pso.found(pso.paper(2, 3)), [0.1, 0.9, 0.2, 0.3, 0.4])
    together, apart = (
        pso.move(seen, Update(), seed=0).positions[0],
        pso.move(seen, Update(factors="group"), seed=0).positions[0],
    )
    assert together[0].tolist() == together[1].tolist() == together[2].tolist()
    assert len({row[0] for row in apart.tolist()}) == 3


def test_a_swarm_cannot_be_changed_in_place():
    positions = LINE.copy()
    swarm = pso.found(positions)
    positions[0] = 9.0
    assert swarm.positions[0, 0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        swarm.positions[0] = 9.0


@pytest.mark.parametrize("positions", [np.zeros((3, 2)), np.zeros((0, 1, 2)), np.full((3, 1, 1), np.nan)])
def test_a_swarm_is_not_found_on_nonsense(positions: np.ndarray):
    with pytest.raises(ValueError, match="initial positions"):
        pso.found(positions)
