"""What a search did, as plain records: its steps, their particles, and the candidates of the re-ranking.

Scores and fitness lie in [0, 1].
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Particle:
    """One particle in one step: where it stood and what it reached on the optimisation items."""

    coefficients: tuple[tuple[float, ...], ...]
    """(groups, directions)."""
    fitness: float | None
    """None if the judgement failed or was stopped: never 0, never a best."""
    failure: str | None = None
    """Why it failed."""
    judged: bool = True
    """False if the particle had not moved and kept its score."""
    bound: float | None = None
    """Of one that was stopped: the most that it could have reached, not more than its personal best."""
    risk: float = 0.0
    """Of one that was stopped: chance at most that it would have exceeded that; 0 unless by a sequential test."""
    tokens: int = 0
    """That the engine computed to judge it; `tokens_of`: what a judgement to the end takes."""
    tokens_of: int = 0

    def __post_init__(self) -> None:
        if [self.fitness, self.failure, self.bound].count(None) != 2:
            found = f"fitness {self.fitness!r}, failure {self.failure!r} and bound {self.bound!r}"
            raise ValueError(
                f"a particle has either a fitness or a failure, or the bound at which it was stopped; found {found}"
            )
        if self.fitness is not None and not math.isfinite(self.fitness):
            raise ValueError(
                f"a fitness is a finite number, found {self.fitness!r}; a failed judgement has None and a reason"
            )


@dataclass(frozen=True)
class SearchStep:
    """One step of the swarm: all particles, and the best fitness ever seen up to its end (None if nothing succeeded
    yet)."""

    particles: tuple[Particle, ...]
    best: float | None


@dataclass(frozen=True)
class Candidate:
    """A judged particle that was ranked again on validation and optimisation items together."""

    step: int
    particle: int
    fitness: float
    ranked: float | None
    """Fitness on both splits; None if that judgement failed."""
    chosen: bool
