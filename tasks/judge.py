"""Judging: a recipe on an evaluation set gives a fitness, once; the journal keeps it for ever.

A judgement's key is the digest of the recipe's tensors and of the evaluation set, so a particle that did not move, and a run that goes on after a
crash, find what is known already.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.engine import Answers, Judge, ModelError
from evals.fitness import fitness
from evals.harness import EvaluationSet, FailedBenchmark
from evals.scores import BenchmarkScore, Judgement
from evals.suite import Suite
from psomerge.digest import digest_of
from psomerge.journal import Journal
from psomerge.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Label:
    """What a judgement was made for: for people and tables, not part of its key."""

    phase: str
    step: int | None = None
    particle: int | None = None


class Judging:
    """Judgements of recipes on the splits of one suite, by one engine, remembered in one journal."""

    def __init__(
        self,
        judge: Judge,
        suite: Suite,
        sets: Mapping[str, EvaluationSet],
        *,
        journal: Journal,
        told: Callable[[Label, Judgement], None],
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """Hands the evaluation sets to the engine.

        Args:
            judge: the engine.
            suite: says how scores become fitness.
            sets: by split.
            journal: of the run.
            told: called after every judgement, made or found.
            guard: called after the engine's work, before any of it counts; raises if the files behind the recipes are no longer those of the recipes.
        """
        self._judge, self._suite, self._sets, self._journal, self._told, self._guard = judge, suite, dict(sets), journal, told, guard
        for name, one in self._sets.items():
            judge.put(name, one.batch)

    def key(self, recipe: Recipe, split: str) -> str:
        """Returns 64 hex digits that name this judgement."""
        return digest_of([recipe.digest(), self._sets[split].digest])

    def known(self, recipe: Recipe, split: str) -> bool:
        """Returns whether the judgement was made before."""
        return self._journal.judgement(self.key(recipe, split)) is not None

    def judge(self, recipe: Recipe, split: str, label: Label) -> Judgement:
        """Returns the judgement of the recipe's model on a split: from the journal, else made now and journalled.

        Raises:
            EngineError: the engine could not be kept alive. A model or benchmark that fails is no error, but a judgement without fitness.
        """
        entry = self._journal.judgement(self.key(recipe, split))
        if entry is None:
            entry = self._journal.append(self._make(recipe, split, label))
        judgement = self._read(entry, split)
        self._told(label, judgement)
        return judgement

    def judge_all(self, recipes: Sequence[Recipe], split: str, labels: Sequence[Label]) -> list[Judgement]:
        """Returns the judgements of a step's whole list, in order."""
        return [self.judge(recipe, split, label) for recipe, label in zip(recipes, labels, strict=True)]

    def answers(self, recipe: Recipe, split: str) -> Answers:
        """Returns the engine's raw answers, made now. Raises EngineError, and what the guard raises: files that changed explain a lost engine, too."""
        try:
            return self._judge.judge(recipe, split)
        finally:
            self._guard()

    def _make(self, recipe: Recipe, split: str, label: Label) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "kind": "judgement",
            "key": self.key(recipe, split),
            "split": split,
            "phase": label.phase,
            "step": label.step,
            "particle": label.particle,
            "method": recipe.method,
            "coefficients": recipe.coefficients,
            "parameters": dict(recipe.parameters),
        }
        try:
            answers = self.answers(recipe, split)
            scores = self._sets[split].score(answers)
        except (ModelError, FailedBenchmark) as error:
            logger.warning("judgement failed: %s", error)
            return entry | {"fitness": None, "failure": str(error)}
        measured = {"seconds": answers.seconds, "peak_bytes": answers.peak_bytes}
        values = {score.benchmark: score.values for score in scores}
        return entry | {"fitness": fitness(self._suite, scores), "failure": None, "values": values} | measured

    def _read(self, entry: Mapping[str, Any], split: str) -> Judgement:
        if entry["fitness"] is None:
            return Judgement(None, failure=entry["failure"])
        scores = self._sets[split].with_values(entry["values"])
        return Judgement(entry["fitness"], scores, seconds=entry["seconds"], peak_bytes=entry["peak_bytes"])


def pooled(suite: Suite, parts: Sequence[Judgement]) -> Judgement:
    """Returns the judgement on the items of several splits together: benchmark by benchmark, every item counts once."""
    failed = next((part for part in parts if part.fitness is None), None)
    if failed is not None:
        return failed
    scores = [_joined(scores) for scores in zip(*(part.scores for part in parts), strict=True)]
    return Judgement(fitness(suite, scores), tuple(scores))


def _joined(scores: Sequence[BenchmarkScore]) -> BenchmarkScore:
    first = scores[0]
    items, groups, values = (tuple(one for score in scores for one in getattr(score, field)) for field in ("items", "groups", "values"))
    return BenchmarkScore(first.benchmark, first.language, first.metric, first.weight, items, groups, values)
