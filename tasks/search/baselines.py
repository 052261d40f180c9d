"""The merges that a search must be compared with: tuned on the same optimisation items, with a budget of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psomerge.evals.suites.scores import Judgement
from psomerge.merge.methods.static import linear, task_arithmetic, ties
from psomerge.recipe import Recipe
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging

SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2)
"""Of task arithmetic."""
TIES_GRID = tuple((density, scale) for density in (0.2, 0.5) for scale in (0.5, 1.0, 1.5, 2.0))
"""(density, scale) of TIES, whose disjoint mean is smaller than a sum."""


@dataclass(frozen=True)
class Tuned:
    """A baseline with its best settings."""

    label: str
    recipe: Recipe
    judgement: Judgement
    judgements: int
    """Settings tried."""


def candidates(recipe: Recipe) -> Mapping[str, Mapping[str, Recipe]]:
    """Returns for each baseline its settings to try, labelled; at most 9, all experts weighing the same."""
    recipe, weights = (
        replace(recipe, grouping="model"),
        [1.0] * len(recipe.experts),
    )  # they have one number for all tensors
    return {
        "average": {"plain average": linear(recipe, weights)},
        "task_arithmetic": {
            f"task arithmetic (scale {scale:g})": task_arithmetic(recipe, weights, scale=scale) for scale in SCALES
        },
        "ties": {f"TIES (density {d:g}, scale {s:g})": ties(recipe, weights, scale=s, density=d) for d, s in TIES_GRID},
    }


def tune(name: str, recipe: Recipe, judging: Judging) -> Tuned | None:
    """Returns the best settings of a baseline by fitness on the optimisation items, the first of equals; None if every
    judgement failed."""
    tried = candidates(recipe)[name]
    judgements: Sequence[Judgement] = judging.judge_all(
        list(tried.values()), "optimisation", [Label(name) for _ in tried]
    )
    sound = [
        (judgement.fitness, label, one, judgement)
        for (label, one), judgement in zip(tried.items(), judgements, strict=True)
        if judgement.fitness is not None
    ]
    if not sound:
        return None
    _, label, best, judgement = max(sound, key=lambda row: row[0])
    return Tuned(label, best, judgement, len(tried))
