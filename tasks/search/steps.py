"""A search's steps: ask for points, judge them, tell what they reached; and what is picked in the end. Plain functions
around `psomerge.search.search`; loops are the flow's."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from psomerge.errors import EngineError
from psomerge.evals.suites.scores import Judgement
from psomerge.recipe import Recipe
from psomerge.search.search import Address, Array, Search, State, tell
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.history import Particle, SearchStep
from psomerge.tasks.search.judge import Judging


@dataclass(frozen=True)
class Judged:
    """A model judged in a search: where, and how on the optimisation items."""

    recipe: Recipe
    judgement: Judgement
    step: int
    particle: int
    rival: Judgement | None = field(default=None, repr=False)
    """The judgement that it had to exceed to matter to the search; None: it mattered in any case."""

    @property
    def mattered(self) -> bool:
        """Whether it succeeded and exceeded its rival: only then its fitness is known however judgements are
        stopped."""
        fitness, rival = self.judgement.fitness, self.rival and self.rival.fitness
        return fitness is not None and (rival is None or fitness > rival)


@dataclass(frozen=True)
class Course:
    """How far a search is: what it asks for next, and everything that was judged on the way."""

    search: Search
    recipe: Recipe
    """Of the base: its experts are the directions, its rows the groups."""
    state: State
    asked: Array
    """(P, G, D), to be judged and told next."""
    history: tuple[SearchStep, ...] = ()
    judged: tuple[Judged, ...] = field(default=(), repr=False)
    """Every particle of every step, in order."""
    judgements: int = 0
    """Spent: particles that had not moved cost none."""

    @property
    def recipes(self) -> list[Recipe]:
        """Of the points asked for."""
        return [self.recipe.with_coefficients(point.tolist()) for point in self.asked]

    @property
    def rivals(self) -> list[Judgement | None]:
        """What each point asked for must exceed to matter."""
        rivals, made = self.search.rivals(self.state), {(one.step, one.particle): one.judgement for one in self.judged}
        return [made[rivals[particle]] if particle in rivals else None for particle in range(len(self.asked))]


def begin(search: Search, recipe: Recipe) -> Course:
    """Returns a search's course with its initial points asked for.

    Args:
        search: with its settings.
        recipe: of the base.
    """
    state = State(len(recipe.experts), len(recipe.coefficients))
    return Course(search, recipe, state, search.ask(state))


def ask_step(course: Course) -> Course:
    """Returns the course with the next step's points asked for. Raises EngineError where a whole step failed."""
    return replace(course, asked=course.search.ask(course.state))


def judge_step(course: Course, judging: Judging) -> list[Judgement]:
    """Returns the judgements of all points asked for on the optimisation items.

    One that cannot exceed its rival may be stopped, as `judging` has it; one without a rival never is. As nothing else
    of a fitness is ever used, the search takes the same way to the last bit if what is stopped is stopped exactly.

    Args:
        course: of the search.
        judging: of the run.

    Raises:
        EngineError: the base itself could not be judged, so no other number would mean anything.
    """
    name, step, recipes = course.search.name, course.state.step, course.recipes
    labels = [Label(name, step, particle) for particle in range(len(recipes))]
    judgements = judging.judge_all(recipes, "optimisation", labels, course.rivals)
    for point, judgement in zip(course.asked, judgements, strict=True):
        if judgement.failure is not None and not point.any():
            raise EngineError(
                f"the base could not be judged: {judgement.failure}; mend that and run the same command again"
            )
    return judgements


def observe_step(course: Course, judgements: Sequence[Judgement]) -> Course:
    """Returns the course with its search told of the judgements, and the step in its history.

    Raises:
        EngineError: every judgement of the step failed.
    """
    number = course.state.step
    if all(judgement.failure is not None for judgement in judgements):
        raise EngineError(
            f"all {len(judgements)} judgements of step {number} failed, the first one: {judgements[0].failure}"
        )
    # Of a particle that was stopped the bound is not above its rival, so it changes nothing, and unlike None it is no
    # failure.
    state = tell(
        course.state,
        course.asked,
        {Address(number, p): j.fitness if j.bound is None else j.bound for p, j in enumerate(judgements)},
    )
    judged = [
        Judged(recipe, judgement, number, particle, rival)
        for particle, (recipe, judgement, rival) in enumerate(
            zip(course.recipes, judgements, course.rivals, strict=True)
        )
    ]
    before = {one.recipe.coefficients for one in course.judged}
    places = [one.recipe.coefficients for one in judged]
    rows = tuple(
        Particle(place, j.fitness, j.failure, place not in before, j.bound, j.risk, j.tokens, j.tokens_of)
        for place, j in zip(places, judgements, strict=True)
    )
    return replace(
        course,
        state=state,
        history=(*course.history, SearchStep(rows, None if state.best is None else state.best_fitness)),
        judged=(*course.judged, *judged),
        judgements=course.judgements + len(set(places) - before),
    )


def contenders(course: Course, number: int) -> list[Judged]:
    """Returns the `number` best different models of a search, best first; of equals the earlier, which makes the first
    the best ever.

    Of those that mattered when they were judged, as all of the first step did: the others are worse than one of these,
    and what is known of their fitness depends on whether they were stopped.
    """
    met: dict[str, Judged] = {}
    for one in course.judged:
        if one.mattered:
            met.setdefault(one.recipe.digest(), one)
    return sorted(met.values(), key=lambda one: one.judgement.fitness or 0.0, reverse=True)[:number]
