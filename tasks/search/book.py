"""The book of a run's judgements: each is a line of the journal, and this the only place that knows how.

What is known of a judgement does not depend on the order of the lines.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from psomerge.evals.harness import EvaluationSet
from psomerge.evals.suites.scores import Judgement
from psomerge.files.digest import digest_of
from psomerge.recipe import Recipe
from psomerge.run.journal import Journal

KIND = "judgement"
_PLAIN = [one.name for one in fields(Judgement) if one.name != "scores"]
"""Fields of a judgement that stand in its line as they are; of the scores, the values of the items do."""


@dataclass(frozen=True)
class Label:
    """What a judgement was made for: for people and tables, not part of its key."""

    phase: str
    step: int | None = None
    particle: int | None = None


class Book:
    """Judgements of recipes on evaluation sets, by key."""

    def __init__(self, journal: Journal, sets: Mapping[str, EvaluationSet]) -> None:
        """Reads what is known already.

        Args:
            journal: of the run.
            sets: by split.
        """
        self._journal, self._sets = journal, dict(sets)
        self._lines: dict[str, dict[str, Any]] = {}
        for entry in journal.entries:
            if entry["kind"] == KIND:
                self._keep(entry)

    def key(self, recipe: Recipe, split: str) -> str:
        """Returns 64 hex digits that name a judgement: the digest of the recipe's tensors and of the evaluation set."""
        return digest_of([recipe.digest(), self._sets[split].digest])

    def find(self, recipe: Recipe, split: str) -> Judgement | None:
        """Returns the judgement of a recipe on a split, None if it was not made yet; one made to its end if there is
        one that was stopped, too."""
        entry = self._lines.get(self.key(recipe, split))
        return None if entry is None else self._judgement(entry)

    def add(self, recipe: Recipe, split: str, label: Label, judgement: Judgement) -> Judgement:
        """Returns the judgement as it is read again, once its line is durable. Raises SpaceError where it cannot be
        written."""
        whole = self._tokens_to_the_end(split) if judgement.bound is not None else judgement.tokens
        judgement = replace(judgement, tokens_of=whole)
        statistics = {score.benchmark: score.statistics for score in judgement.scores if score.corpus}
        entry = self._journal.append(
            {
                "kind": KIND,
                "key": self.key(recipe, split),
                "split": split,
                **asdict(label),
                "method": recipe.method,
                "coefficients": recipe.coefficients,
                "parameters": dict(recipe.parameters),
                **{name: getattr(judgement, name) for name in _PLAIN},
                "values": {score.benchmark: score.values for score in judgement.scores},
                **({"statistics": statistics} if statistics else {}),
            }
        )
        self._keep(entry)
        return self._judgement(entry)

    def _keep(self, entry: dict[str, Any]) -> None:
        before = self._lines.get(entry["key"])
        if before is None or before["bound"] is not None:
            self._lines[entry["key"]] = entry

    def _judgement(self, entry: Mapping[str, Any]) -> Judgement:
        values, statistics = entry["values"], entry.get("statistics", {})
        scores = self._sets[entry["split"]].with_values(values, statistics) if values else ()
        return Judgement(**{name: entry[name] for name in _PLAIN}, scores=scores)

    def _tokens_to_the_end(self, split: str) -> int:
        """Tokens of the first judgement on a split that was made to its end, by step and particle: of log-likelihoods
        every model costs the same, of texts about so many."""

        def place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
            return entry["step"] is None, entry["step"] or 0, entry["phase"], entry["particle"] or 0

        made = [one for one in self._lines.values() if one["split"] == split and one["fitness"] is not None]
        return min(made, key=place)["tokens"] if made else 0
