"""What holds of every search: its state is a fold over judgements, the same way comes of the same fitness, and one
that is made up runs through the steps to a selection."""

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from made.models import tiny_llama
from psomerge.arithmetic.randomness import uniform
from psomerge.errors import EngineError
from psomerge.evals.harness import EvaluationSet
from psomerge.evals.stopping.policy import EXACT, Stopping
from psomerge.evals.suites.suite import Suite
from psomerge.flows.config.loading import load_config
from psomerge.flows.stages.opening import searches
from psomerge.search.pso import Settings
from psomerge.search.search import Address, Array, Search, State, tell
from psomerge.search.searches import SEARCHES
from psomerge.tasks.search.inputs import all_judgements
from psomerge.tasks.search.select import rerank
from psomerge.tasks.search.steps import Course, ask_step, begin, contenders, judge_step, observe_step
from psomerge.tasks.search.table import Outcome, judge_results
from runs.scripted_judging import Known, built, capitals, judging, recipe_of, scripted

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)

POINTS = {0: [(1.0, 0.0), (0.5, 0.5), (1.0, 1.0)], 1: [(0.0, 0.0), (1.0, 0.5), (0.75, 0.75)]}
"""Of the made-up search: the second expert is never asked for, the base in the second step."""


@dataclass(frozen=True)
class Listed:
    """A search that asks for fixed points; each of the second step must exceed the first step's best, but for the
    last."""

    settings: Settings
    name = "listed"
    title = "list of points"
    label = "fixed points"
    steps = 2

    def ask(self, state: State) -> Array:
        return np.array([[point] * state.groups for point in POINTS[state.step]])

    def rivals(self, state: State) -> Mapping[int, Address]:
        return {} if state.best is None else dict.fromkeys((0, 1), state.best)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.setitem(SEARCHES, "listed", Listed)
    return SEARCHES["listed"](Settings())


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return capitals(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def sets(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvaluationSet]:
    return built(suite, tiny_llama(tmp_path_factory.mktemp("tiny")))


def scores(step: int, particles: int) -> dict[Address, float | None]:
    return {Address(step, particle): uniform("fitness", step, particle) for particle in range(particles)}


@pytest.mark.parametrize(
    ("name", "factors", "digest"),
    [
        ("star", "particle", "88ed7e2c2073b7aec0dc78a4998fac34b8e655d9c0b17c317a291d5c24462dee"),
        ("star", "group", "7673fb277a127519b21dfa6229630197414b6a60e62565b119d0383f806b4e0d"),
        ("paper", "particle", "24d81147481944edcdcb3cb21f9bdb2e71bc7b40d9c66a96977084b41c450edf"),
        ("paper", "group", "14b3157f2d03b92e54b4e827910b5ab5ed36ccc1aa800f2c9980fbfd6dfe3dc1"),
    ],
)
def test_five_steps_have_the_bits_that_the_first_version_of_the_search_had(name: str, factors: str, digest: str):
    # Computed with the swarm's former functions (found, observe, move): the bytes of every step's positions.
    found, search, state = hashlib.sha256(), SEARCHES[name](Settings(seed=7, factors=factors)), State(3, 2)
    for step in range(search.steps):
        positions = search.ask(state)
        found.update(positions.tobytes())
        state = tell(state, positions, scores(step, len(positions)))
    assert found.hexdigest() == digest
    assert state.best == Address(4, 5)


@pytest.mark.parametrize("name", ["star", "paper"])
def test_the_order_in_which_judgements_of_a_step_arrive_does_not_matter(name: str):
    search, draw = SEARCHES[name](Settings(seed=3)), random.Random(0)
    one = other = State(2, 1)
    for step in range(4):
        judged = scores(step, 5) | {Address(step, 2): None}
        shuffled = list(judged)
        draw.shuffle(shuffled)
        assert shuffled != list(judged)
        one = tell(one, search.ask(one), judged)
        other = tell(other, search.ask(other), {address: judged[address] for address in shuffled})
    assert (one.best, one.best_fitness, one.bests) == (other.best, other.best_fitness, other.bests)
    for mine, its in zip((*one.positions, *one.fitness), (*other.positions, *other.fitness), strict=True):
        assert mine.tobytes() == its.tobytes()
    assert search.ask(one).tobytes() == search.ask(other).tobytes()


@pytest.mark.parametrize("name", ["star", "paper"])
def test_of_a_particle_that_was_stopped_any_number_up_to_its_rival_s_leads_the_same_way(name: str):
    search, state = SEARCHES[name](Settings()), State(2, 1)
    assert search.rivals(state) == {}  # nothing is known before the first step: all of it is judged to the end
    state = tell(state, search.ask(state), scores(0, 5) | {Address(0, 4): None})
    rivals = search.rivals(state)
    assert rivals == {particle: Address(0, particle) for particle in range(4)}  # 4 has no judgement to exceed
    ways = set()
    for share in (0.0, 0.5, 1.0):
        bounds = {Address(1, p): share * state.fitness_at(rival) for p, rival in rivals.items()}
        after = tell(state, search.ask(state), bounds | {Address(1, 4): 0.01})
        ways.add((search.ask(after).tobytes(), after.best, after.best_fitness, *after.bests.items()))
    assert len(ways) == 1


def test_a_search_s_settings_have_the_config_s_values():
    config = load_config("quickstart", ["swarm.pull=0.25", "swarm.steps=3", "seed=11", "compare.swarms=[paper, star]"])
    found = searches(config)
    assert [(one.name, one.steps, one.label) for one in found] == [
        ("star", 3, "PSO, star swarm"),
        ("paper", 3, "PSO, paper swarm"),
    ]
    # Of four experts s = 2/4, and u = 0.25 leans to the first.
    assert found[0].ask(State(4, 1))[5, 0].tolist() == [0.75, 0.5, 0.5, 0.5]
    settings = getattr(found[0], "settings")  # noqa: B009
    assert settings == Settings(steps=3, seed=11, pull=0.25)


def test_a_plan_counts_the_judgements_of_a_search_that_is_no_swarm(listed: Search) -> None:
    settings = ["compare.baselines=[]", "rerank=2", "swarm.initial=listed"]
    own = load_config("quickstart", [*settings, "compare.swarms=[]"])
    # Two steps of three points, two re-ranked; in the table base, two experts and what the search found.
    assert all_judgements(searches(own), 2, [], own.rerank) == 2 * 3 + 2 + 4
    # The star's five steps of five points, two re-ranked, and a row, beside it.
    both = searches(load_config("quickstart", [*settings, "compare.swarms=[star]"]))
    assert all_judgements(both, 2, [], own.rerank) == 2 * 3 + 2 + 4 + (own.swarm.steps * 5 + 2 + 1)


def run(search: Search, folder: Path, suite: Suite, sets: dict[str, EvaluationSet], known: Known, stopping: bool):
    """The course of a search through its steps, its selection, and the table's rows, as a flow takes them."""
    kind = EXACT if stopping else Stopping("off")
    judge = judging(folder, suite, sets, scripted(sets, known), stopping=kind)
    course: Course = begin(search, recipe_of(2))
    for number in range(search.steps):
        course = ask_step(course) if number else course
        course = observe_step(course, judge_step(course, judge))
    selection = rerank(course, judge, 2)
    return course, selection, judge_results(Outcome((course,), (selection,), ()), judge)


KNOWN = {(1.0, 0.0): 2, (0.5, 0.5): 3, (1.0, 1.0): 1, (0.0, 0.0): 1, (1.0, 0.5): 5, (0.75, 0.75): 2}
"""Items known of six; 4 by the second expert."""


def known(recipe, split: str) -> float:
    return KNOWN.get(recipe.coefficients[0], 4)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_search_that_is_no_swarm_runs_to_a_selection(
    listed: Search, tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet], stopping: bool
) -> None:
    course, selection, table = run(listed, tmp_path, suite, sets, known, stopping)
    assert [[particle.coefficients[0] for particle in step.particles] for step in course.history] == [*POINTS.values()]
    assert [step.best for step in course.history] == pytest.approx([3 / 6, 5 / 6])
    assert course.judgements == 6
    # In the second step the base does not exceed the best of the first, as it had to; the last had nothing to exceed.
    found = [(one.step, one.particle) for one in contenders(course, 99)]
    assert found == [(1, 1), (0, 1), (0, 0), (1, 2), (0, 2)]
    assert (course.history[1].particles[0].bound is not None) == stopping
    assert (selection.chosen.step, selection.chosen.particle) == (1, 1)
    assert [(one.label, one.kind) for one in table] == [
        ("base", "base"),
        ("expert expert1", "expert"),
        ("expert expert2", "expert"),
        ("fixed points", "search"),
    ]
    # The search judged the base (to its end unless it was stopped) and the first expert, and never the second.
    assert [one.fitness for one in table] == [
        None if stopping else pytest.approx(1 / 6),
        2 / 6,
        None,
        pytest.approx(5 / 6),
    ]
    assert [one.test.fitness for one in table] == pytest.approx([1 / 6, 2 / 6, 4 / 6, 5 / 6])


def test_the_base_s_failure_stops_a_search_that_comes_to_it_later(
    listed: Search, tmp_path: Path, suite: Suite, sets: dict[str, EvaluationSet]
) -> None:
    failing: Known = lambda recipe, split: known(recipe, split) if any(recipe.coefficients[0]) else math.nan  # noqa: E731
    with pytest.raises(EngineError, match="the base could not be judged"):
        run(listed, tmp_path, suite, sets, failing, False)
