"""The swarm of PSO-Merging as a frozen record, and the three functions that found it, observe fitness and move it.

A position is an array of coefficients, not a model: every position, velocity and best of the search is a linear
combination of the initial directions as long as the random factors are scalars per particle (or per group of tensors).
This module judges nothing and keeps no loop. Order in a step: judge the positions, `observe`, `move`. Arrays are
float64 and read-only; every operation is elementwise in a fixed order, so results have the same bits on every platform.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psomerge.arithmetic.randomness import uniform
from psomerge.errors import EngineError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Update:
    """What the user sets of the velocity update. Source: PSO-Merging, arXiv 2508.19839, w = 0.2 and c1 = c2 = 2 in all
    its settings."""

    inertia: float = 0.2  # w
    cognitive: float = 2.0  # c1
    social: float = 2.0  # c2
    factors: Literal["particle", "group"] = "particle"
    """Whether r1 and r2 are drawn once per particle and step, or also per group of tensors."""


@dataclass(frozen=True)
class Address:
    """Where a particle was judged: step from 0, particle from 0."""

    step: int
    particle: int


@dataclass(frozen=True, eq=False)
class Swarm:
    """What changes during a search of P particles, G groups and D directions."""

    step: int
    """Number of moves so far."""
    positions: Array
    """(P, G, D)."""
    velocities: Array
    """(P, G, D)."""
    fitness: Array | None
    """(P,) of `positions` in this step, NaN where the judgement failed; None until `observe`."""
    personal_best: Array
    """(P, G, D); without meaning where `personal_fitness` is -inf."""
    personal_fitness: Array
    """(P,), -inf where every judgement of the particle has failed so far."""
    global_best: Array | None
    """(G, D), the best position ever judged; None while every judgement has failed."""
    global_fitness: float
    """Of `global_best`; -inf where there is none."""
    global_address: Address | None
    """Where `global_best` was first judged."""


def paper(experts: int, groups: int) -> Array:
    """Returns the initial positions of PSO-Merging: the base, the experts, their DARE copies.

    Args:
        experts: n >= 1.
        groups: G >= 1.

    Returns:
        (2n+1, G, 2n): zero, then a unit vector for each direction (n task vectors, then their n DARE copies).
    """
    return _in_groups(np.concatenate([np.zeros((1, 2 * experts)), np.eye(2 * experts)]), groups)


def star(experts: int, groups: int, *, scale: float | None = None, pull: float = 0.5) -> Array:
    """Returns initial positions around sums of task vectors: the base, the experts, and for each expert a sum that
    leans to it.

    Sums of useful merges lie near 2, where the paper's swarm, whose sums are 0 or 1, hardly gets.

    Args:
        experts: n >= 1.
        groups: G >= 1.
        scale: s, weight of every expert in the sums; default min(1, 2/n).
        pull: u, what is added to the expert that the sum leans to.

    Returns:
        (2n+1, G, n): zero, e_i, s * 1 + u * e_i.
    """
    s = min(1.0, 2.0 / experts) if scale is None else scale
    unit = np.eye(experts)
    return _in_groups(np.concatenate([np.zeros((1, experts)), unit, s + pull * unit]), groups)


def found(positions: Array) -> Swarm:
    """Returns a swarm at rest at `positions` (P, G, D), with nothing observed. Source: v0 = 0 is our choice, the paper
    names none."""
    if positions.ndim != 3 or not positions.size or not np.isfinite(positions).all():
        raise ValueError(
            f"expected finite initial positions (particles, groups, directions), found shape {positions.shape}"
        )
    start = _frozen(np.array(positions, dtype=np.float64))
    nothing = _frozen(np.full(len(start), -np.inf))
    return Swarm(0, start, _frozen(np.zeros_like(start)), None, start, nothing, None, -np.inf, None)


def observe(swarm: Swarm, fitness: Sequence[float | None] | Array) -> Swarm:
    """Returns the swarm with personal and global bests brought up to date.

    Only a strict improvement replaces a best; of equals within a step the lowest particle wins. A failed judgement is
    worse than every other and never becomes a best.

    Args:
        swarm: not yet observed in this step.
        fitness: (P,), higher is better; None or a number that is not finite where the judgement failed. Where it was
            ended because the personal best cannot be exceeded any more, any number up to that best: it changes nothing.

    Raises:
        ValueError: another number of particles, or the step was observed before.
    """
    if swarm.fitness is not None:
        raise ValueError(f"step {swarm.step} was observed before; move the swarm first")
    seen = np.array([np.nan if f is None else f for f in fitness], dtype=np.float64)
    if seen.shape != swarm.personal_fitness.shape:
        raise ValueError(f"expected the fitness of {len(swarm.positions)} particles, found shape {seen.shape}")
    seen[~np.isfinite(seen)] = np.nan
    ranked = np.where(np.isnan(seen), -np.inf, seen)
    better = ranked > swarm.personal_fitness
    swarm = replace(
        swarm,
        fitness=_frozen(seen),
        personal_best=_frozen(np.where(better[:, None, None], swarm.positions, swarm.personal_best)),
        personal_fitness=_frozen(np.where(better, ranked, swarm.personal_fitness)),
    )
    best = int(np.argmax(ranked))
    if ranked[best] > swarm.global_fitness:
        address = Address(swarm.step, best)
        swarm = replace(
            swarm, global_best=swarm.positions[best], global_fitness=float(ranked[best]), global_address=address
        )
    return swarm


def move(swarm: Swarm, update: Update, seed: int) -> Swarm:
    """Returns the swarm one step on: v <- w v + c1 r1 (pbest - x) + c2 r2 (gbest - x), x <- x + v.

    A particle whose judgements have all failed has no personal best and is pulled by the global best alone.

    Args:
        swarm: observed in this step.
        update: w, c1, c2 and how r1, r2 are drawn.
        seed: of the search.

    Raises:
        ValueError: the step was not observed.
        EngineError: every judgement of the step failed.

    Source: PSO-Merging, arXiv 2508.19839; no clamp, no normalisation.
    """
    if swarm.fitness is None:
        raise ValueError(f"step {swarm.step} was not observed; judge its positions first")
    if swarm.global_best is None or np.isnan(swarm.fitness).all():
        raise EngineError(
            f"all {len(swarm.positions)} judgements of step {swarm.step} failed; the journal has their reasons, mend "
            "them and run again"
        )
    x = swarm.positions
    has_best = np.isfinite(swarm.personal_fitness)[:, None, None]
    to_personal = np.where(has_best, swarm.personal_best - x, 0.0)
    to_global = swarm.global_best - x
    inward = (update.cognitive * factors(swarm, update, seed, "cognitive")) * to_personal
    across = (update.social * factors(swarm, update, seed, "social")) * to_global
    v = (update.inertia * swarm.velocities + inward) + across
    return replace(swarm, step=swarm.step + 1, positions=_frozen(x + v), velocities=_frozen(v), fitness=None)


def factors(swarm: Swarm, update: Update, seed: int, term: Literal["cognitive", "social"]) -> Array:
    """Returns r1 (`cognitive`) or r2 (`social`) of the swarm's next move in [0, 1): (P, 1, 1), or (P, G, 1) if drawn
    per group.

    A factor depends on its own address (seed, step, particle, term and group) and on nothing else.
    """
    particles, groups, _ = swarm.positions.shape
    if update.factors == "particle":
        return np.array([[[uniform("swarm", seed, swarm.step, p, term)]] for p in range(particles)])
    return np.array(
        [[[uniform("swarm", seed, swarm.step, p, term, g)] for g in range(groups)] for p in range(particles)]
    )


def _in_groups(rows: Array, groups: int) -> Array:
    return np.repeat(rows[:, None, :], groups, axis=1)


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array
