"""What every search is: it is asked for points, which are judged, and told what they reached; it knows nothing else.

A point is an array of coefficients, not a model. The state is a fold over judgements, a set of (step, particle) ->
fitness, so replaying a journal gives it back, and no optimiser is ever stored. This module judges nothing and keeps no
loop. A new search is one file with an `ask`, and one line in `psomerge.search.searches`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Address(NamedTuple):
    """Where a point was judged: step from 0, particle (its place in the step) from 0."""

    step: int
    particle: int


@dataclass(frozen=True, eq=False)
class State:
    """All that a search was told, step by step; arrays are float64 and read-only."""

    experts: int
    """n >= 1."""
    groups: int
    """G >= 1, rows of coefficients."""
    positions: tuple[Array, ...] = ()
    """(P, G, D) of each step told."""
    fitness: tuple[Array, ...] = ()
    """(P,) of each step told, higher is better; NaN where the judgement failed."""

    @property
    def step(self) -> int:
        """The step to be asked for and told next, from 0."""
        return len(self.fitness)

    @property
    def bests(self) -> dict[int, Address]:
        """Where each particle was best, the earliest of equals; particles whose judgements have all failed are
        absent."""
        if not self.fitness:
            return {}
        ranked = np.nan_to_num(np.stack(self.fitness), nan=-np.inf)
        return {
            particle: Address(step, particle)
            for particle, step in enumerate(ranked.argmax(axis=0).tolist())
            if np.isfinite(ranked[step, particle])
        }

    @property
    def best(self) -> Address | None:
        """Where the best point ever told was judged, the earliest of equals, within a step the lowest particle; None
        while every judgement has failed."""
        return min(self.bests.values(), key=lambda one: (-self.fitness_at(one), one), default=None)

    @property
    def best_fitness(self) -> float:
        """Of `best`; -inf where there is none."""
        return -np.inf if self.best is None else self.fitness_at(self.best)

    def position_at(self, address: Address) -> Array:
        """Returns the point (G, D) that was judged there."""
        return self.positions[address.step][address.particle]

    def fitness_at(self, address: Address) -> float:
        """Returns what was told of it; NaN where the judgement failed."""
        return float(self.fitness[address.step][address.particle])

    def until(self, step: int) -> "State":
        """Returns what was known before `step` was told."""
        return replace(self, positions=self.positions[:step], fitness=self.fitness[:step])


class Search(Protocol):
    """A search by a name, with its settings; it has no state of its own. Every step has as many points as the first."""

    @property
    def name(self) -> str:
        """In journals and files: letters, digits and hyphens."""
        ...

    @property
    def title(self) -> str:
        """In sentences, after `the`."""
        ...

    @property
    def label(self) -> str:
        """In tables, of what the search found."""
        ...

    @property
    def steps(self) -> int:
        """S >= 1: how often it is asked."""
        ...

    def ask(self, state: State) -> Array:
        """Returns the points of step `state.step`: (P, G, D) float64, finite, D = n task vectors, or 2n with their DARE
        copies.

        The same state gives the same bits, on every platform and however often. Raises EngineError where what was told
        leads nowhere.
        """
        ...

    def rivals(self, state: State) -> Mapping[int, Address]:
        """Returns for particles of step `state.step` the earlier judgement that theirs must exceed to matter here.

        Judging may end once it cannot; what is told is then any number up to that. Particles that are absent are judged
        to the end.
        """
        ...


def tell(state: State, positions: Array, fitness: Mapping[Address, float | None]) -> State:
    """Returns the state with step `state.step` told.

    Args:
        state: of the search.
        positions: (P, G, D), what was asked for.
        fitness: of all P points, in any order; None or a number that is not finite where the judgement failed. Where it
            was ended because it cannot exceed its rival's any more, any number up to that.

    Raises:
        ValueError: fitness of other particles, or of another step.
    """
    expected = [Address(state.step, particle) for particle in range(len(positions))]
    if set(fitness) != set(expected):
        raise ValueError(
            f"expected the fitness of {len(expected)} particles of step {state.step}, found {sorted(fitness)}"
        )
    told = np.array([fitness[one] for one in expected], dtype=np.float64)  # None becomes NaN
    told[~np.isfinite(told)] = np.nan
    return replace(
        state,
        positions=(*state.positions, frozen(np.array(positions, dtype=np.float64))),
        fitness=(*state.fitness, frozen(told)),
    )


def first_points(search: Search, experts: int, groups: int = 1) -> Array:
    """Returns the initial points (P, G, D) of a search over n experts."""
    return search.ask(State(experts, groups))


def most_judgements(search: Search, experts: int) -> int:
    """Returns the most judgements that a search over n experts takes: S times P."""
    return search.steps * len(first_points(search, experts))


def frozen(array: Array) -> Array:
    """Returns the array itself, read-only from now on."""
    array.setflags(write=False)
    return array
