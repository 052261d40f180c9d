"""The table on the test split: the base, every expert, the tuned baselines and what each search found, each judged
once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psomerge.evals.suites.scores import Judgement
from psomerge.recipe import Recipe
from psomerge.tasks.search.baselines import Tuned
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging
from psomerge.tasks.search.select import Selection
from psomerge.tasks.search.steps import Search


@dataclass(frozen=True)
class Outcome:
    """What searching and tuning found. The first search is the one that the config asks for; the others stand beside
    it."""

    searches: tuple[Search, ...]
    selections: tuple[Selection, ...]
    """One for each search."""
    tuned: tuple[Tuned, ...]

    @property
    def chosen(self) -> Recipe:
        """The model that is written and registered."""
        return self.selections[0].chosen.recipe


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


def label_of(search: str) -> str:
    """Returns the label of what a search found."""
    return f"PSO, {search} swarm"


def judge_results(outcome: Outcome, judging: Judging) -> list[Result]:
    """Returns the table's models with their judgements on the test split, the configured search's last."""
    first = outcome.searches[0]
    rows: list[tuple[str, str, Recipe, int, float | None]] = []
    for place, name in enumerate(("base", *(expert.name for expert in first.judged[0][0].experts))):
        recipe, judgement = first.judged[place]  # both swarms start from the base and the experts, in this order
        rows.append(
            (
                "base" if place == 0 else f"expert {name}",
                "base" if place == 0 else "expert",
                recipe,
                0,
                judgement.fitness,
            )
        )
    rows += [(one.label, "baseline", one.recipe, one.judgements, one.judgement.fitness) for one in outcome.tuned]
    found = [
        (label_of(s.name), "search", c.chosen.recipe, s.judgements, c.chosen.judgement.fitness)
        for s, c in zip(outcome.searches, outcome.selections, strict=True)
    ]
    rows += reversed(found)
    return [
        Result(label, kind, recipe, spent, fitness, judging.judge(recipe, "test", Label("test")))
        for label, kind, recipe, spent, fitness in rows
    ]


def by_kind(results: Sequence[Result], kind: str) -> Mapping[str, Result]:
    """Returns the results of a kind whose test judgement succeeded, by label."""
    return {one.label: one for one in results if one.kind == kind and one.test.fitness is not None}
