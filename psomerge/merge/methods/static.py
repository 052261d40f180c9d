"""The static merges of `psomerge merge`, each as a recipe of experts and weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from psomerge.errors import ConfigError
from psomerge.recipe import Recipe


def linear(recipe: Recipe, weights: Sequence[float]) -> Recipe:
    """Returns the weighted average of the experts, weights normalised to sum 1: theta = sum_i w_i theta_i / sum_i w_i.

    Raises:
        ConfigError: the weights sum to zero.
    """
    total = sum(weights)
    if total == 0:
        raise ConfigError("linear: the weights sum to 0, so they cannot be normalised; give weights with another sum")
    return recipe.with_coefficients([[weight / total for weight in weights]])


def task_arithmetic(recipe: Recipe, weights: Sequence[float], scale: float = 1.0) -> Recipe:
    """Returns theta_0 + scale sum_i w_i tau_i. Source: arXiv 2212.04089, section 2."""
    return recipe.with_coefficients([[scale * weight for weight in weights]])


def dare(recipe: Recipe, weights: Sequence[float], scale: float = 1.0, drop_rate: float = 0.8) -> Recipe:
    """Returns theta_0 + scale sum_i w_i m_i tau_i / (1 - p), m_i ~ Bernoulli(1 - p), drop_rate p in [0, 1). Source:
    arXiv 2311.03099, section 3."""
    if not 0 <= drop_rate < 1:
        raise ConfigError(f"dare: drop_rate must lie in [0, 1), found {drop_rate}")
    row = [0.0] * len(weights) + [scale * weight for weight in weights]
    return replace(recipe.with_coefficients([row]), drop_rate=drop_rate)


def ties(recipe: Recipe, weights: Sequence[float], scale: float = 1.0, density: float = 0.2) -> Recipe:
    """Returns theta_0 + scale tau, tau of `psomerge.merge.methods.ties` at a density in (0, 1].

    Raises:
        ConfigError: density out of range, or a negative weight.
    """
    if not 0 < density <= 1:
        raise ConfigError(f"ties: density must lie in (0, 1], found {density}")
    if min(weights) < 0:
        raise ConfigError(f"ties: weights must not be negative, found {min(weights)}")
    return replace(
        recipe,
        method="ties",
        coefficients=(tuple(weights),),
        grouping="model",
        parameters={"density": density, "scale": scale},
    )


METHODS: Mapping[str, Callable[..., Recipe]] = {
    "linear": linear,
    "task_arithmetic": task_arithmetic,
    "dare": dare,
    "ties": ties,
}
"""By the name that the command line takes; each method's keywords are its parameters."""
