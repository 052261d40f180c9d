"""What a run merges, what it searches with and what it is judged on: all but the engines that judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psomerge.evals.harness import EvaluationSet
from psomerge.evals.suites.suite import Suite
from psomerge.fit.warning import FitWarning
from psomerge.merge.basis import Basis
from psomerge.merge.grouping import GROUPINGS
from psomerge.merge.methods.table import baselines
from psomerge.recipe import Recipe
from psomerge.search.search import Search, most_judgements


@dataclass(frozen=True)
class Inputs:
    """A run's."""

    name: str
    """Of its config."""
    seed: int
    suite: Suite
    sets: Mapping[str, EvaluationSet]
    """By split."""
    basis: Basis
    recipe: Recipe
    """Base and experts with zero coefficients: what every particle starts from."""
    searches: tuple[Search, ...]
    """First the one whose model is registered, then those that stand beside it."""
    baselines: tuple[str, ...] = ()
    """Names of methods that are tuned beside them."""
    rerank: int = 3
    """Models of a search that are ranked again."""
    warnings: tuple[FitWarning, ...] = ()
    """About the experts, of the check."""

    @property
    def tokenizer(self) -> str:
        """Whose it is, and what was added to it."""
        return self.basis.tokenizer(self.recipe.tokenizer_from)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the rows of coefficients, in order, if there are several."""
        names = dict.fromkeys(map(GROUPINGS[self.recipe.grouping], self.basis.base.tensors))
        return tuple(names) if len(self.recipe.coefficients) > 1 else ()

    @property
    def judgements(self) -> int:
        """The most that the run asks for, those found in the journal or not moved included."""
        return all_judgements(self.searches, len(self.recipe.experts), self.baselines, self.rerank)


def all_judgements(searches: Sequence[Search], experts: int, tuned: Sequence[str], rerank: int) -> int:
    """Returns the most judgements that a run asks for: searches, baselines, re-ranking and the table on the test
    split; arguments as of `Inputs`."""
    found = [most_judgements(search, experts) + rerank for search in searches]
    rows = 1 + experts + len(tuned) + len(found)
    return sum(found) + sum(len(baselines()[name][1].settings) for name in tuned) + rows
