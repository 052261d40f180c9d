"""Particle swarm optimisation as in PSO-Merging (arXiv 2508.19839), a search among others.

Every position, velocity and best is a linear combination of the initial directions as long as the random factors are
scalars per particle (or per group of tensors). Velocities are no state: they are folded anew from what was told. Every
operation is elementwise in a fixed order, so results have the same bits on every platform.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from psomerge.arithmetic.randomness import uniform
from psomerge.errors import EngineError
from psomerge.search.search import Address, Array, State, frozen
from psomerge.search.starts import PULL


@dataclass(frozen=True)
class Settings:
    """What the user sets of a search. Source: PSO-Merging, w = 0.2 and c1 = c2 = 2 in all its settings, S = 5 for
    language models."""

    steps: int = 5  # S
    seed: int = 0
    inertia: float = 0.2  # w
    cognitive: float = 2.0  # c1
    social: float = 2.0  # c2
    factors: Literal["particle", "group"] = "particle"
    """Whether r1 and r2 are drawn once per particle and step, or also per group of tensors."""
    scale: float | None = None
    """s of the star; None: min(1, 2/n)."""
    pull: float = PULL
    """u of the star."""


@dataclass(frozen=True)
class Pso:
    """The swarm search from one set of initial points; a `psomerge.search.search.Search`."""

    name: str
    start: Callable[[int, int], Array]
    """(n, G) -> initial positions (P, G, D)."""
    settings: Settings = Settings()

    @property
    def title(self) -> str:
        """By its initial swarm."""
        return f"{self.name} swarm"

    @property
    def label(self) -> str:
        """By its initial swarm, too."""
        return f"PSO, {self.title}"

    @property
    def steps(self) -> int:
        """S."""
        return self.settings.steps

    def ask(self, state: State) -> Array:
        """Returns where the swarm stands: its initial points, then x <- x + v, one `velocities` for each step told.

        Raises:
            ValueError: the initial points are no finite (P, G, D).
            EngineError: every judgement of a step failed.
        """
        if not state.step:
            start = np.array(self.start(state.experts, state.groups), dtype=np.float64)
            if start.ndim != 3 or not start.size or not np.isfinite(start).all():
                raise ValueError(
                    f"expected finite initial positions (particles, groups, directions), found shape {start.shape}"
                )
            return frozen(start)
        return frozen(state.positions[-1] + self.velocities(state))

    def rivals(self, state: State) -> Mapping[int, Address]:
        """Returns every particle's personal best: of a fitness that does not exceed it nothing is ever used."""
        return state.bests

    def velocities(self, state: State) -> Array:
        """Returns the velocities (P, G, D) of the latest move: v <- w v + c1 r1 (pbest - x) + c2 r2 (gbest - x).

        A particle whose judgements have all failed has no personal best and is pulled by the global best alone.

        Args:
            state: of at least one step; v0 = 0 is our choice, the paper names none.

        Raises:
            EngineError: every judgement of a step failed.

        Source: PSO-Merging, arXiv 2508.19839; no clamp, no normalisation.
        """
        settings, v = self.settings, np.zeros_like(state.positions[0])
        for step, x in enumerate(state.positions):
            then = state.until(step + 1)
            if then.best is None or np.isnan(then.fitness[step]).all():
                raise EngineError(
                    f"all {len(x)} judgements of step {step} failed; the journal has their reasons, mend them and run "
                    "again"
                )
            bests = then.bests
            own = np.stack([then.position_at(bests[p]) if p in bests else x[p] for p in range(len(x))])
            r1, r2 = (factors(settings, step, x.shape[:2], term) for term in ("cognitive", "social"))
            inward = (settings.cognitive * r1) * (own - x)
            across = (settings.social * r2) * (then.position_at(then.best) - x)
            v = (settings.inertia * v + inward) + across
        return v


def factors(settings: Settings, step: int, shape: tuple[int, ...], term: Literal["cognitive", "social"]) -> Array:
    """Returns r1 (`cognitive`) or r2 (`social`) of the move after `step`, in [0, 1): (P, 1, 1), or (P, G, 1) if drawn
    per group.

    A factor depends on its own address (seed, step, particle, term and group) and on nothing else.

    Args:
        settings: the seed, and how factors are drawn.
        step: from 0.
        shape: (P, G).
        term: which factor.
    """
    particles, groups = shape
    if settings.factors == "particle":
        return np.array([[[uniform("swarm", settings.seed, step, p, term)]] for p in range(particles)])
    return np.array(
        [[[uniform("swarm", settings.seed, step, p, term, g)] for g in range(groups)] for p in range(particles)]
    )
