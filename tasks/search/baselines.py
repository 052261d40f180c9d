"""The merges that a search must be compared with: tuned on the same optimisation items, with a budget of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psomerge.evals.suites.scores import Judgement
from psomerge.merge.methods.table import baselines
from psomerge.recipe import Recipe
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging


@dataclass(frozen=True)
class Tuned:
    """A baseline with its best settings."""

    label: str
    recipe: Recipe
    judgement: Judgement
    judgements: int
    """Settings tried."""


def candidates(name: str, recipe: Recipe) -> Mapping[str, Recipe]:
    """Returns the settings of a baseline to try, by their labels, all experts weighing the same."""
    method, grid = baselines()[name]
    plain, weights = replace(recipe, grouping="model"), [1.0] * len(recipe.experts)  # one number for all tensors
    return {grid.label.format(**one): method.recipe(plain, weights, **one) for one in grid.settings}


def tune(name: str, recipe: Recipe, judging: Judging) -> Tuned | None:
    """Returns the best settings of a baseline by fitness on the optimisation items, the first of equals; None if every
    judgement failed."""
    tried = candidates(name, recipe)
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
