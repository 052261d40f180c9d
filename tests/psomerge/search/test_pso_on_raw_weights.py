"""PSO-Merging written plainly on weight vectors, with its full state of 3(2n+1)+1 models, against coefficients times
directions."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from psomerge.arithmetic.randomness import uniform
from psomerge.search import starts
from psomerge.search.pso import Pso, Settings
from psomerge.search.search import Address, State, tell

SIZE, EXPERTS, STEPS, SEED, DROP = 500, 3, 6, 11, 0.8


def plain_search(
    thetas: list[np.ndarray], fitness: Callable[[np.ndarray], float]
) -> tuple[list[list[float]], np.ndarray]:
    """The method on weights, particle by particle: returns the fitness of every particle in every step, and the best
    model ever judged."""
    w, c1, c2 = 0.2, 2.0, 2.0
    x = [theta.copy() for theta in thetas]
    v = [np.zeros(SIZE) for _ in thetas]
    own, own_fitness = [theta.copy() for theta in thetas], [-math.inf] * len(thetas)
    best, best_fitness, trajectory = thetas[0], -math.inf, []
    for step in range(STEPS):
        trajectory.append([fitness(theta) for theta in x])
        for particle, score in enumerate(trajectory[-1]):
            if score > own_fitness[particle]:
                own[particle], own_fitness[particle] = x[particle].copy(), score
            if score > best_fitness:
                best, best_fitness = x[particle].copy(), score
        for particle in range(len(x)):
            r1, r2 = (uniform("swarm", SEED, step, particle, term) for term in ("cognitive", "social"))
            v[particle] = w * v[particle] + c1 * r1 * (own[particle] - x[particle]) + c2 * r2 * (best - x[particle])
            x[particle] = x[particle] + v[particle]
    return trajectory, best


def coefficient_search(
    base: np.ndarray, directions: np.ndarray, start: np.ndarray, fitness: Callable[[np.ndarray], float]
):
    """The same through the search: `directions` (D, SIZE), `start` (P, 1, D)."""
    search = Pso("made", lambda n, groups: start, Settings(seed=SEED, inertia=0.2, cognitive=2.0, social=2.0))
    state, trajectory = State(EXPERTS, 1), []
    for step in range(STEPS):
        positions = search.ask(state)
        trajectory.append([fitness(base + position[0] @ directions) for position in positions])
        state = tell(state, positions, {Address(step, p): one for p, one in enumerate(trajectory[-1])})
    assert state.best is not None
    return trajectory, base + state.position_at(state.best)[0] @ directions


@pytest.fixture
def experts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A base (SIZE,), task vectors (EXPERTS, SIZE), and their DARE copies made the plain way: drop with probability p,
    rescale."""
    generator = np.random.default_rng(0)
    base, deltas = generator.normal(size=SIZE), 0.3 * generator.normal(size=(EXPERTS, SIZE))
    keep = generator.random((EXPERTS, SIZE)) >= DROP
    return base, deltas, keep * deltas / (1 - DROP)


@pytest.fixture
def fitness(experts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Callable[[np.ndarray], float]:
    """Smooth and not linear in the weights; its optimum lies off the span of the experts, so that no particle ever
    reaches it."""
    base, deltas, _ = experts
    target = base + deltas.sum(axis=0) + 0.1 * np.random.default_rng(1).normal(size=SIZE)

    def judge(theta: np.ndarray) -> float:
        return math.exp(-float(((theta - target) ** 2).mean())) + 0.05 * math.sin(float(theta[:20].sum()))

    return judge


@pytest.mark.parametrize("name", ["paper", "star"])
def test_pso_on_raw_weights_goes_the_same_way_and_ends_with_the_same_model(name: str, experts, fitness):
    base, deltas, sparse = experts
    if name == "paper":
        thetas = [base, *(base + deltas), *(base + sparse)]
        directions, start = np.concatenate([deltas, sparse]), starts.paper(EXPERTS, 1)
    else:
        # s = min(1, 2/3) and u = 0.5, written out on the weights.
        thetas = [base, *(base + deltas), *(base + 2 / 3 * deltas.sum(axis=0) + 0.5 * delta for delta in deltas)]
        directions, start = deltas, starts.star(EXPERTS, 1)
    raw, raw_model = plain_search(thetas, fitness)
    short, short_model = coefficient_search(base, directions, start, fitness)
    np.testing.assert_allclose(short, raw, rtol=1e-12, atol=0)
    assert np.abs(short_model - raw_model).max() <= 1e-12 * np.abs(raw_model).max()
    # The search did something: its best is none of the models that it began with.
    assert min(np.abs(short_model - theta).max() for theta in thetas) > 1e-3
    assert max(map(max, raw)) > max(raw[0])
