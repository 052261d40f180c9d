"""The table on the test split: the base, every expert, the tuned baselines and what each search found, each judged
once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psomerge import recipe as recipes
from psomerge.evals.suites.scores import Judgement
from psomerge.recipe import Recipe
from psomerge.tasks.search.baselines import Tuned
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.select import Selection
from psomerge.tasks.search.steps import Course


@dataclass(frozen=True)
class Outcome:
    """What searching and tuning found. The first search is the one that the config asks for; the others stand beside
    it."""

    courses: tuple[Course, ...]
    selections: tuple[Selection, ...]
    """One for each search."""
    tuned: tuple[Tuned, ...]

    @property
    def chosen(self) -> Recipe:
        """The model that is written and registered."""
        return self.selections[0].chosen.recipe

    def write_recipes(self, folder: Path) -> None:
        """Writes the recipe of every particle ever judged, for `psomerge materialize`."""
        folder.mkdir(exist_ok=True)
        for course in self.courses:
            for one in course.judged:
                name = f"{course.search.name}-step-{one.step + 1}-particle-{one.particle}.json"
                recipes.write(one.recipe, folder / name)


@dataclass(frozen=True)
class Result:
    """One model of the table."""

    label: str
    kind: str
    """One of `tasks.report.summary.KINDS`."""
    recipe: Recipe
    judgements: int
    """Spent on optimisation items to find or tune it."""
    fitness: float | None
    """On the optimisation items."""
    test: Judgement


def judge_results(outcome: Outcome, judging: Judging) -> list[Result]:
    """Returns the table's models with their judgements on the test split, the configured search's last."""
    first = outcome.courses[0]
    rows: list[tuple[str, str, Recipe, int, float | None]] = []
    met = {one.recipe.digest(): one for one in reversed(first.judged)}
    for name, recipe in first.recipe.unmerged().items():
        kind = "base" if name == "base" else "expert"
        label = name if name == "base" else f"expert {name}"
        one = met.get(recipe.digest())  # if the search judged it
        rows.append((label, kind, one.recipe if one else recipe, 0, one and one.judgement.fitness))
    rows += [(one.label, "baseline", one.recipe, one.judgements, one.judgement.fitness) for one in outcome.tuned]
    found = [
        (one.search.label, "search", s.chosen.recipe, one.judgements, s.chosen.judgement.fitness)
        for one, s in zip(outcome.courses, outcome.selections, strict=True)
    ]
    rows += reversed(found)
    return [
        Result(label, kind, recipe, spent, fitness, judging.judge(recipe, "test", Label("test")))
        for label, kind, recipe, spent, fitness in rows
    ]


def by_kind(results: Sequence[Result], kind: str) -> Mapping[str, Result]:
    """Returns the results of a kind whose test judgement succeeded, by label."""
    return {one.label: one for one in results if one.kind == kind and one.test.fitness is not None}
