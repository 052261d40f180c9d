"""A search: the swarm's judge - observe - move, and what is picked from it. Plain functions around
`psomerge.search.pso`; loops are the flow's."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from psomerge.errors import EngineError
from psomerge.evals.suites.scores import Judgement
from psomerge.recipe import Recipe
from psomerge.search.pso import Swarm, Update, found, move, observe, paper, star
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.history import Particle, Step
from psomerge.tasks.search.judge import Judging


@dataclass(frozen=True)
class Search:
    """A search as it stands: the swarm, and everything that was judged on the way."""

    name: str
    """Of the initial swarm: `star` or `paper`."""
    swarm: Swarm
    history: tuple[Step, ...] = ()
    judged: tuple[tuple[Recipe, Judgement], ...] = field(default=(), repr=False)
    """Every particle of every step, in order."""
    judgements: int = 0
    """Spent: particles that had not moved cost none."""


def begin(name: str, recipe: Recipe, groups: int, *, scale: float | None, pull: float) -> Search:
    """Returns the search at rest at its initial swarm.

    Args:
        name: `star` or `paper`.
        recipe: its experts are the directions.
        groups: rows of coefficients.
        scale, pull: s and u of the star.
    """
    n = len(recipe.experts)
    positions = paper(n, groups) if name == "paper" else star(n, groups, scale=scale, pull=pull)
    return Search(name, found(positions))


def particles(search: Search, recipe: Recipe) -> list[Recipe]:
    """Returns the recipe of every particle at its present position."""
    return [recipe.with_coefficients(position.tolist()) for position in search.swarm.positions]


def judge_step(search: Search, recipe: Recipe, judging: Judging, stopping: bool = False) -> list[Judgement]:
    """Returns the judgements of all particles on the optimisation items.

    Args:
        search: whose particles moved.
        recipe: of the base.
        judging: of the run.
        stopping: whether a particle that cannot exceed its own personal best is judged no further. One without a
            personal best is judged to the end. As nothing else of a fitness is ever used, the search takes the same way
            to the last bit if what is stopped is stopped exactly.

    Raises:
        EngineError: the base itself could not be judged (particle 0 of the first step), so no other number would mean
            anything.
    """
    step = search.swarm.step
    labels = [Label(search.name, step, particle) for particle in range(len(search.swarm.positions))]
    bests = {one.particle: one.judgement for one in _raised(search)} if stopping else {}
    judgements = judging.judge_all(
        particles(search, recipe), "optimisation", labels, [bests.get(particle) for particle in range(len(labels))]
    )
    if step == 0 and judgements[0].fitness is None:
        raise EngineError(
            f"the base could not be judged: {judgements[0].failure}; mend that and run the same command again"
        )
    return judgements


def observe_step(search: Search, recipe: Recipe, judgements: Sequence[Judgement]) -> Search:
    """Returns the search with personal and global bests brought up to date, and the step in its history.

    Raises:
        EngineError: every judgement of the step failed.
    """
    # Of a particle that was stopped the bound is not above its personal best, so it raises nothing, and unlike None it
    # is no failure.
    swarm = observe(
        search.swarm, [judgement.fitness if judgement.bound is None else judgement.bound for judgement in judgements]
    )
    if all(judgement.failure is not None for judgement in judgements):
        raise EngineError(
            f"all {len(judgements)} judgements of step {swarm.step} failed, the first one: {judgements[0].failure}"
        )
    recipes = particles(search, recipe)
    before = {old.coefficients for old, _ in search.judged}
    spent = len({one.coefficients for one in recipes} - before)
    rows = tuple(
        Particle(
            one.coefficients,
            j.fitness,
            j.failure,
            one.coefficients not in before,
            j.bound,
            j.risk,
            j.tokens,
            j.tokens_of,
        )
        for one, j in zip(recipes, judgements, strict=True)
    )
    step = Step(rows, None if swarm.global_best is None else swarm.global_fitness)
    return replace(
        search,
        swarm=swarm,
        history=(*search.history, step),
        judged=(*search.judged, *zip(recipes, judgements, strict=True)),
        judgements=search.judgements + spent,
    )


def move_step(search: Search, update: Update, seed: int) -> Search:
    """Returns the search with every particle moved."""
    return replace(search, swarm=move(search.swarm, update, seed))


@dataclass(frozen=True)
class Contender:
    """A model judged in a search: where it was first met, and its fitness on the optimisation items."""

    recipe: Recipe
    judgement: Judgement
    step: int
    particle: int


def contenders(search: Search, number: int) -> list[Contender]:
    """Returns the `number` best different models of a search, best first; of equals the earlier, which makes the first
    the global best.

    Of those that raised their own particle's personal best when they were judged, as all of the first step did: the
    others are worse than one of these, and what is known of their fitness depends on whether they were stopped.
    """
    met: dict[str, Contender] = {}
    for one in _raised(search):
        met.setdefault(one.recipe.digest(), one)
    return sorted(met.values(), key=lambda one: one.judgement.fitness or 0.0, reverse=True)[:number]


def _raised(search: Search) -> Iterator[Contender]:
    """The models that raised their own particle's personal best, in the order in which they were judged; a particle's
    last one is its personal best."""
    size = len(search.swarm.positions)
    best: dict[int, float] = {}
    for place, (recipe, judgement) in enumerate(search.judged):
        step, particle = divmod(place, size)
        if judgement.fitness is not None and judgement.fitness > best.get(particle, -math.inf):
            best[particle] = judgement.fitness
            yield Contender(recipe, judgement, step, particle)
