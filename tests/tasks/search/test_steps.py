"""The search around the swarm: what is judged, what is refused, what is picked, and what the baselines cost. Fitness is
the number of items known, of six."""

import json
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from made.models import tiny_llama, toy_checkpoint
from psomerge.errors import EngineError
from psomerge.evals.harness import EvaluationSet
from psomerge.evals.stopping.policy import EXACT, Stopping
from psomerge.evals.suites.scores import Judgement
from psomerge.evals.suites.suite import Suite
from psomerge.merge.basis import open_basis
from psomerge.merge.methods.table import baselines
from psomerge.recipe import Recipe
from psomerge.search.pso import Pso, Settings
from psomerge.search.search import State
from psomerge.search.searches import SEARCHES
from psomerge.tasks.experts.sparsify import sparsify
from psomerge.tasks.search.baselines import candidates, tune
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.select import rerank
from psomerge.tasks.search.steps import Course, ask_step, begin, contenders, judge_step, observe_step
from psomerge.tasks.search.table import Outcome, by_kind, judge_results
from runs.scripted_judging import ITEMS, Known, built, capitals, recipe_of, scripted
from runs.scripted_judging import judging as judging_by_script

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

RECIPE = recipe_of(2)
STAR = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.5, 1.0), (1.0, 1.5)]
"""Of two experts: base, experts, and 1 + u at one of them, u = 0.5."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return capitals(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def sets(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationSet]:
    return built(suite, tiny_llama(tmp_path_factory.mktemp("tiny")))


def near(recipe: Recipe, split: str) -> float:
    """A hill around (1.2, 0.8), the same on every split: items known by distance."""
    a, b = recipe.coefficients[0][:2]
    return max(0, ITEMS - round(4 * math.dist((a, b), (1.2, 0.8))))


OFF = Stopping("off")
judging = partial(judging_by_script, stopping=OFF)


def searched(judge: Judging, steps: int, name: str = "star", recipe: Recipe = RECIPE, *, seed: int = 0) -> Course:
    course = begin(SEARCHES[name](Settings(steps, seed)), recipe)
    for number in range(steps):
        course = ask_step(course) if number else course
        course = observe_step(course, judge_step(course, judge))
    return course


def failing_at(*points: tuple[float, ...]) -> Known:
    return lambda recipe, split: math.nan if recipe.coefficients[0] in points else near(recipe, split)


def test_the_first_step_judges_base_experts_and_leaning_sums(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, near)
    search = searched(judging(tmp_path, suite, sets, engine), 1)
    assert [one.coefficients[0] for one in engine.judged] == STAR
    assert [particle.coefficients[0] for particle in search.history[0].particles] == STAR
    # Distances to (1.2, 0.8) by hand: 1.442, 0.825, 1.217, 0.361, 0.728; four items a unit, rounded, are not known.
    assert [particle.fitness for particle in search.history[0].particles] == pytest.approx(
        [0 / 6, 3 / 6, 1 / 6, 5 / 6, 3 / 6]
    )
    assert search.history[0].best == pytest.approx(5 / 6)


def test_a_particle_that_did_not_move_is_not_judged_twice(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, near)
    search = searched(judging(tmp_path, suite, sets, engine), 3)
    # The global best starts at rest and is its own personal best: nothing pulls it.
    assert [step.particles[3].judged for step in search.history][:2] == [True, False]
    digests = [one.digest() for one in engine.judged]
    assert len(digests) == len(set(digests)) == search.judgements < 3 * len(STAR)
    assert sum(particle.judged for step in search.history for particle in step.particles) == search.judgements


def test_a_search_that_goes_on_from_its_journal_takes_the_same_way_and_asks_nothing_twice(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    (tmp_path / "whole").mkdir()
    whole = searched(judging(tmp_path / "whole", suite, sets, scripted(sets, near)), 4)
    first, second = scripted(sets, near), scripted(sets, near)
    searched(judging(tmp_path, suite, sets, first), 2)
    again = searched(judging(tmp_path, suite, sets, second), 4)
    assert again.history == whole.history  # floats to the last bit
    assert not {one.digest() for one in first.judged} & {one.digest() for one in second.judged}


def test_a_second_swarm_asks_nothing_about_models_that_the_first_one_knew(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    engine = scripted(sets, near)
    judge = judging(tmp_path, suite, sets, engine)
    searched(judge, 1)
    before = len(engine.judged)
    searched(judge, 1, "paper")
    assert [one.coefficients[0] for one in engine.judged[before:]] == [
        (0, 0, 1, 0),
        (0, 0, 0, 1),
    ]  # base and experts are the star's too: the copies are new


def test_the_base_s_failure_stops_the_run_with_exit_code_7(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    judge = judging(tmp_path, suite, sets, scripted(sets, failing_at((0.0, 0.0))))
    with pytest.raises(EngineError, match=r"the base could not be judged: toy_pick_en: .*nan") as caught:
        searched(judge, 1)
    assert caught.value.exit_code == 7
    assert "\n" not in str(caught.value)


def test_a_failed_particle_is_told_with_its_reason_and_never_a_best(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    # Particle 3 would have been the best one.
    search = searched(judging(tmp_path, suite, sets, scripted(sets, failing_at((1.5, 1.0)))), 1)
    failed = search.history[0].particles[3]
    assert failed.fitness is None
    assert "nan" in (failed.failure or "")
    assert search.history[0].best == pytest.approx(3 / 6)
    assert [one.particle for one in contenders(search, 9)] == [1, 4, 2, 0]
    assert (
        searched(judging(tmp_path, suite, sets, scripted(sets, failing_at((1.5, 1.0)))), 3).history[2].best is not None
    )


def test_a_step_in_which_everything_fails_stops_the_run(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    search = ask_step(searched(judging(tmp_path, suite, sets, scripted(sets, near)), 1))
    with pytest.raises(EngineError, match="all 5 judgements of step 1 failed, the first one: because") as caught:
        observe_step(search, [Judgement(None, failure="because")] * 5)
    assert caught.value.exit_code == 7


def test_the_best_ever_survives_worse_steps(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    search = searched(
        judging(
            tmp_path,
            suite,
            sets,
            scripted(sets, lambda recipe, split: 6 if recipe.coefficients[0] == (1.5, 1.0) else 1),
        ),
        3,
    )
    assert [step.best for step in search.history] == [1.0, 1.0, 1.0]
    assert contenders(search, 1)[0].recipe.coefficients == ((1.5, 1.0),)


def test_contenders_are_different_models_best_first_and_of_equals_the_earlier(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    search = searched(
        judging(
            tmp_path, suite, sets, scripted(sets, lambda recipe, split: 4 if recipe.coefficients[0] in STAR[2:] else 2)
        ),
        2,
    )
    best = contenders(search, 4)
    assert [(one.step, one.particle) for one in best] == [(0, 2), (0, 3), (0, 4), (0, 0)]
    every = contenders(search, 99)
    assert len({one.recipe.digest() for one in every}) == len(every) < 2 * len(STAR)


def rough(seed: int) -> Known:
    """A hill with holes, and models here and there that cannot be judged: other ones for every seed, the base never."""

    def known(recipe: Recipe, split: str) -> float:
        draw = random.Random(f"{seed}|{split}|{recipe.coefficients}")
        if any(recipe.coefficients[0]) and draw.random() < 0.1:
            return math.nan
        return max(0, near(recipe, split) - draw.choice((0, 0, 1, 3)))

    return known


@pytest.mark.parametrize("seed", range(12))
def test_a_search_that_stops_what_cannot_win_takes_the_same_way_to_the_last_bit(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], seed: int
) -> None:
    found = {}
    for stopping in (False, True):
        folder = tmp_path / str(stopping)
        folder.mkdir()
        kind = EXACT if stopping else OFF
        judge = judging(folder, suite, sets, scripted(sets, rough(seed)), stopping=kind)
        first, second = (searched(judge, 5, name, seed=seed) for name in ("star", "paper"))
        picked = [rerank(one, judge, 3) for one in (first, second)]
        lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        found[stopping] = (first, second), picked, {line["key"]: line for line in lines}
    for off, exact in zip(found[False][0], found[True][0], strict=True):
        assert same(off, exact)
        assert off.judgements == exact.judgements
        assert [step.best for step in off.history] == [step.best for step in exact.history]
        assert [p.coefficients for step in off.history for p in step.particles] == [
            p.coefficients for step in exact.history for p in step.particles
        ]
        assert [(c.recipe, c.step, c.particle, c.judgement.scores) for c in contenders(off, 99)] == [
            (c.recipe, c.step, c.particle, c.judgement.scores) for c in contenders(exact, 99)
        ]
    assert [(one.chosen.recipe, one.candidates) for one in found[False][1]] == [
        (one.chosen.recipe, one.candidates) for one in found[True][1]
    ]
    whole, cut = found[False][2], found[True][2]
    assert set(whole) == set(cut)
    stopped = {key for key, line in cut.items() if line["bound"] is not None}
    assert stopped
    assert all(whole[key]["fitness"] is None or whole[key]["fitness"] <= cut[key]["bound"] for key in stopped)
    assert all(whole[key].get("values") == cut[key].get("values") for key in set(cut) - stopped)


def same(one: Course, other: Course) -> bool:
    """Whether two searches are equal to the last bit: where they went, how fast, and all their bests."""
    return (
        np.array_equal(np.stack(one.state.positions), np.stack(other.state.positions))
        and np.array_equal(velocities(one), velocities(other))
        and bests(one.state) == bests(other.state)
        and (one.state.best, one.state.best_fitness) == (other.state.best, other.state.best_fitness)
    )


def velocities(course: Course) -> np.ndarray:
    assert isinstance(course.search, Pso)
    return course.search.velocities(course.state)


def bests(state: State) -> dict[int, tuple[float, list[list[float]]]]:
    return {p: (state.fitness_at(one), state.position_at(one).tolist()) for p, one in state.bests.items()}


def test_nothing_is_stopped_in_the_first_step_or_before_a_particle_has_a_personal_best(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    # Particle 4 fails in the first step: in the second it is judged to the end, though it knows nothing; the others are
    # stopped.
    known: Known = lambda recipe, split: (  # noqa: E731
        math.nan if recipe.coefficients[0] == STAR[4] else 5 if recipe.coefficients[0] in STAR else 0
    )
    search = searched(judging(tmp_path, suite, sets, scripted(sets, known), stopping=EXACT), 2)
    assert all(particle.bound is None for particle in search.history[0].particles)
    assert (search.history[1].particles[4].fitness, search.history[1].particles[4].bound) == (0.0, None)
    stopped = [particle for particle in search.history[1].particles if particle.bound is not None]
    assert stopped
    assert all((particle.fitness, particle.failure) == (None, None) for particle in stopped)


def test_a_step_in_which_every_particle_is_stopped_is_no_failure(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    search = ask_step(searched(judging(tmp_path, suite, sets, scripted(sets, near)), 1))
    best = [search.state.fitness_at(one) for one in search.state.bests.values()]
    after = ask_step(observe_step(search, [Judgement(None, bound=one) for one in best]))
    judged = ask_step(observe_step(search, [Judgement(0.0)] * 5))
    assert same(after, judged)
    assert np.array_equal(after.asked, judged.asked)
    assert bests(after.state) == bests(search.state)
    assert after.state.best == search.state.best
    with pytest.raises(EngineError, match="all 5 judgements"):
        observe_step(search, [Judgement(None, failure="because")] * 5)


def test_by_a_sequential_test_a_search_gives_particles_up_and_goes_on_from_its_journal(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    # The second step knows nothing. So small a set gives little to bet on, which is why the error rate is as high as
    # this.
    known: Known = lambda recipe, split: 3 if recipe.coefficients[0] in STAR else 0  # noqa: E731
    shuffled = sets | {
        "optimisation": sets["optimisation"].shuffled("a")
    }  # whose first items are ones that the personal best knows
    found = []
    for _ in range(2):
        engine = scripted(shuffled, known)
        search = searched(judging(tmp_path, suite, shuffled, engine, stopping=Stopping("sequential", 0.9)), 2)
        stopped = [particle for particle in search.history[1].particles if particle.bound is not None]
        assert len(stopped) == len(STAR) - 1
        assert {particle.risk for particle in stopped} == {0.9}
        assert all(particle.bound == pytest.approx(3 / 6) for particle in stopped)
        found.append((search.history, len(engine.judged)))
    assert found[0][0] == found[1][0]
    assert found[1][1] == 0


def test_contenders_raised_their_own_particle_s_personal_best(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    # All of the first step; what is judged later knows four items, no more than particles 3 and 4 knew, and more than
    # 0, 1 and 2.
    known: Known = lambda recipe, split: {STAR[3]: 5, STAR[4]: 4}.get(  # noqa: E731
        recipe.coefficients[0], 2 if recipe.coefficients[0] in STAR else 4
    )
    search = searched(judging(tmp_path, suite, sets, scripted(sets, known)), 2)
    found = {(one.step, one.particle) for one in contenders(search, 99)}
    assert found == {(0, particle) for particle in range(5)} | {(1, particle) for particle in range(3)}


@pytest.mark.parametrize("initial", ["star", "paper"])
def test_groups_have_rows_of_their_own_from_the_first_step_on(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], initial: str
) -> None:
    recipe = replace(recipe_of(2, rows=3), grouping="layers")
    search = searched(judging(tmp_path, suite, sets, scripted(sets, near)), 2, initial, recipe)
    shapes = {
        (len(particle.coefficients), len(particle.coefficients[0]))
        for step in search.history
        for particle in step.particles
    }
    assert shapes == {(3, 2 if initial == "star" else 4)}


def test_rerank_picks_by_all_items_of_both_splits(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    # Optimisation: 5, 4 and 4 of 6 for the three best; with validation 5 + 0, 4 + 2, 4 + 1 of 12: the second wins.
    plan = {STAR[3]: (5, 0), STAR[1]: (4, 2), STAR[2]: (4, 1)}

    def known(recipe: Recipe, split: str) -> float:
        return plan.get(recipe.coefficients[0], (0, 6))[("optimisation", "validation").index(split)]

    engine = scripted(sets, known)
    judge = judging(tmp_path, suite, sets, engine)
    selection = rerank(searched(judge, 1), judge, 3)
    assert selection.chosen.recipe.coefficients == (STAR[1],)
    assert [(one.step, one.particle, one.chosen) for one in selection.candidates] == [
        (0, 3, False),
        (0, 1, True),
        (0, 2, False),
    ]
    assert [one.fitness for one in selection.candidates] == pytest.approx([5 / 6, 4 / 6, 4 / 6])
    assert [one.ranked for one in selection.candidates] == pytest.approx([5 / 12, 6 / 12, 5 / 12])
    # Neither base nor the last particle, which know all of validation, was asked for it.
    assert len(engine.judged) == len(STAR) + 3


def test_of_equals_on_both_splits_the_search_s_own_order_decides(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    plan = {STAR[1]: (2, 1), STAR[3]: (1, 2)}  # both know three items of one benchmark
    judge = judging(
        tmp_path,
        suite,
        sets,
        scripted(sets, lambda recipe, split: plan.get(recipe.coefficients[0], (0, 0))[split == "validation"]),
    )
    assert rerank(searched(judge, 1), judge, 2).chosen.recipe.coefficients == (STAR[1],)


def test_where_no_validation_judgement_succeeds_the_search_s_best_stays(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    judge = judging(
        tmp_path,
        suite,
        sets,
        scripted(sets, lambda recipe, split: math.nan if split == "validation" else near(recipe, split)),
    )
    selection = rerank(searched(judge, 1), judge, 2)
    assert selection.chosen.particle == 3
    assert [one.ranked for one in selection.candidates] == [None, None]


def test_a_contender_that_fails_on_validation_is_not_chosen(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    def known(recipe: Recipe, split: str) -> float:
        return math.nan if split == "validation" and recipe.coefficients[0] == STAR[3] else near(recipe, split)

    judge = judging(tmp_path, suite, sets, scripted(sets, known))
    assert rerank(searched(judge, 1), judge, 2).chosen.recipe.coefficients == (STAR[1],)


@pytest.mark.parametrize("name", ["average", "task_arithmetic", "ties"])
def test_a_baseline_is_tuned_on_optimisation_items_with_at_most_nine_judgements(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], name: str
) -> None:
    engine = scripted(
        sets, lambda recipe, split: pytest.fail(split) if split != "optimisation" else near(recipe, split)
    )
    tuned = tune(name, RECIPE, judging(tmp_path, suite, sets, engine))
    assert tuned is not None
    assert len(engine.judged) == tuned.judgements <= 9
    assert tuned.judgement.fitness == pytest.approx(max(near(one, "optimisation") for one in engine.judged) / ITEMS)


def test_of_equal_settings_the_first_is_kept(tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]) -> None:
    tuned = tune("task_arithmetic", RECIPE, judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: 2)))
    assert tuned is not None
    assert tuned.label == "task arithmetic (scale 0.2)"


def test_a_baseline_all_of_whose_settings_fail_has_no_row(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    assert tune("ties", RECIPE, judging(tmp_path, suite, sets, scripted(sets, lambda recipe, split: math.nan))) is None


def test_baselines_of_a_search_by_layers_fit_the_model(tmp_path: Path) -> None:
    # They took the search's grouping over and brought one row of numbers for three groups: the run ended after all its
    # searches.
    draw = torch.Generator().manual_seed(0)
    names = ("model.embed_tokens.weight", "model.layers.0.w", "model.layers.1.w")
    folders = {
        name: toy_checkpoint(tmp_path / name, {one: torch.randn(4, 2, generator=draw) for one in names})
        for name in ("base", "expert1", "expert2")
    }
    basis, recipe = open_basis(folders), replace(recipe_of(2, rows=3), grouping="layers")
    average = candidates("average", recipe)["plain average"]
    for name, tensor in basis.merged_tensors(average):
        expected = (basis.experts[0].tensor(name) + basis.experts[1].tensor(name)) / 2
        torch.testing.assert_close(tensor, expected)
    for baseline in baselines():
        for one in candidates(baseline, recipe).values():
            assert len(list(basis.merged_tensors(one))) == 3


def test_the_table_holds_every_model_once_judged_once_on_test(
    tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    def known(recipe: Recipe, split: str) -> float:
        return math.nan if split == "test" and recipe.coefficients[0] == (0.0, 1.0) else near(recipe, split)

    engine = scripted(sets, known)
    judge = judging(tmp_path, suite, sets, engine)
    searches = tuple(searched(judge, 2, name) for name in ("star", "paper"))
    selections = tuple(rerank(one, judge, 2) for one in searches)
    average = tune("average", RECIPE, judge)
    assert average is not None
    before = len(engine.judged)
    table = judge_results(Outcome(searches, selections, (average,)), judge)
    labels = ["base", "expert expert1", "expert expert2", "plain average", "PSO, paper swarm", "PSO, star swarm"]
    assert [one.label for one in table] == labels
    assert len(engine.judged) - before <= len(labels)
    assert [one.judgements for one in table] == [0, 0, 0, 1, searches[1].judgements, searches[0].judgements]
    assert table[2].test.fitness is None  # in the table, with its reason
    assert list(by_kind(table, "expert")) == ["expert expert1"]
    assert table[-1].recipe == Outcome(searches, selections, ()).chosen


@pytest.mark.parametrize("drop_rate", [0.0, 0.5, 0.8])
def test_what_sparsify_measures_is_what_the_masks_of_the_search_do(tmp_path: Path, drop_rate: float) -> None:
    draw = torch.Generator().manual_seed(0)
    tensors = ("model.layers.0.mlp.w", "model.layers.0.self_attn.w")
    folders = {
        name: toy_checkpoint(tmp_path / name, {one: torch.randn(200, 100, generator=draw) for one in tensors})
        for name in ("base", "expert1")
    }
    basis = open_basis(folders)
    rows = {one.kind: one for one in sparsify(basis, drop_rate, 7)}
    assert set(rows) == {"feed-forward", "attention"}
    recipe = replace(recipe_of(1), drop_rate=drop_rate, mask_seed=7).with_coefficients([[0.0, 1.0]])
    for (name, merged), kind in zip(basis.merged_tensors(recipe), ("feed-forward", "attention"), strict=True):
        delta, whole = merged - basis.base.tensor(name), basis.experts[0].tensor(name) - basis.base.tensor(name)
        assert rows[kind].kept == pytest.approx((delta != 0).double().mean().item(), abs=1e-4)
        assert rows[kind].norm_ratio == pytest.approx((delta.norm() / whole.norm()).item(), rel=1e-5)
        # Binomial: 20,000 entries, five standard deviations.
        assert abs(rows[kind].kept - (1 - drop_rate)) <= 5 * math.sqrt(drop_rate * (1 - drop_rate) / 20_000)
