"""Judging: a recipe on an evaluation set gives a fitness, once; the journal keeps it for ever.

A judgement's key is the digest of the recipe's tensors and of the evaluation set, so a particle that did not move, and a run that goes on after a
crash, find what is known already.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evals.engine import Answers, Judge, ModelError
from evals.fitness import References, fitness, needs_references
from evals.harness import EvaluationSet, FailedBenchmark
from evals.scores import BenchmarkScore, Example, Judgement
from evals.suite import Suite
from psomerge.digest import digest_of
from psomerge.errors import EngineError
from psomerge.journal import Journal
from psomerge.recipe import Recipe
from tasks.memory import JournalMemory

logger = logging.getLogger(__name__)
Scores = tuple[BenchmarkScore, ...]


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
        references: Sequence[Recipe] = (),
        keep: Callable[[str, Sequence[Example]], None] = lambda key, examples: None,
    ) -> None:
        """Hands the evaluation sets to the engine.

        Args:
            judge: the engine.
            suite: says how scores become fitness.
            sets: by split.
            journal: of the run.
            told: called after every judgement, made or found.
            guard: called after the engine's work, before any of it counts; raises if the files behind the recipes are no longer those of the recipes.
            keep: called with a judgement's key and its items, before the journal knows of it.
            references: the base, then the experts: where the suite's fitness is told beside them, they are judged first on every split.
        """
        self.memory = JournalMemory(journal)
        self._keep = keep
        self._recipes = tuple(references) if needs_references(suite) else ()
        self._reference_scores: dict[str, list[Scores | None]] = {}
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
        self.references((split,))
        entry = self._journal.judgement(self.key(recipe, split))
        if entry is None:
            entry = self._journal.append(self._entry(recipe, split, label, *self._measure(recipe, split)))
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

    def fitness(self, scores: Scores, splits: Sequence[str]) -> float:
        """Returns the suite's fitness of scores on the items of these splits together; errors as `references`."""
        return fitness(self._suite, scores, self.references(splits))

    def references(self, splits: Sequence[str]) -> References | None:
        """Returns what base and experts reach on the items of these splits together; None where the suite needs none.

        An expert that cannot be judged is left out.

        Raises:
            EngineError: the base cannot be judged.
        """
        if not self._recipes:
            return None
        for split in splits:
            if split not in self._reference_scores:
                self._reference_scores[split] = self._judge_references(split)
        base, *experts = zip(*(self._reference_scores[split] for split in splits), strict=True)
        return References.of(_pooled(base) or (), [scores for parts in experts if (scores := _pooled(parts))])

    def _judge_references(self, split: str) -> list[Scores | None]:
        """Base and experts on a split. Their lines are written when all are judged: the fitness of each needs the others."""
        known = [self._journal.judgement(self.key(recipe, split)) for recipe in self._recipes]
        found = [
            (self._read(entry, split).scores or None, entry) if entry else self._measure(recipe, split)
            for recipe, entry in zip(self._recipes, known, strict=True)
        ]
        self._reference_scores[split] = [scores for scores, _ in found]
        if found[0][0] is None:
            raise EngineError(f"the base could not be judged on the {split} items, and the suite's fitness is told beside it: {found[0][1]['failure']}")
        for recipe, entry, one in zip(self._recipes, known, found, strict=True):
            if entry is None:
                self._journal.append(self._entry(recipe, split, Label("reference"), *one))
        return self._reference_scores[split]

    def _measure(self, recipe: Recipe, split: str) -> tuple[Scores | None, dict[str, Any]]:
        """Scores of a recipe's model, None if it cannot be judged; and what the journal keeps of the judgement beside fitness and label."""
        try:
            answers = self.answers(recipe, split)
            examined = self._sets[split].examine(answers, self.memory)
        except (ModelError, FailedBenchmark) as error:
            logger.warning("judgement failed: %s", error)
            return None, {"failure": str(error)}
        scores = tuple(score for score, _ in examined)
        self._keep(self.key(recipe, split), [example for _, examples in examined for example in examples])
        numbers: dict[str, Any] = {"values": {score.benchmark: score.values for score in scores}}
        if statistics := {score.benchmark: score.statistics for score in scores if score.corpus}:
            numbers["statistics"] = statistics
        return scores, {"failure": None, **numbers, "seconds": answers.seconds, "peak_bytes": answers.peak_bytes}

    def _entry(self, recipe: Recipe, split: str, label: Label, scores: Scores | None, measured: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "kind": "judgement",
            "key": self.key(recipe, split),
            "split": split,
            "phase": label.phase,
            "step": label.step,
            "particle": label.particle,
            "method": recipe.method,
            "coefficients": recipe.coefficients,
            "parameters": dict(recipe.parameters),
            "fitness": None if scores is None else self.fitness(scores, (split,)),
            **measured,
        }

    def _read(self, entry: Mapping[str, Any], split: str) -> Judgement:
        if entry["fitness"] is None:
            return Judgement(None, failure=entry["failure"])
        scores = self._sets[split].with_values(entry["values"], entry.get("statistics", {}))
        return Judgement(entry["fitness"], scores, seconds=entry["seconds"], peak_bytes=entry["peak_bytes"])


def pooled(judging: Judging, parts: Mapping[str, Judgement]) -> Judgement:
    """Returns the judgement on the items of several splits together: benchmark by benchmark, every item counts once.

    Args:
        judging: tells the fitness.
        parts: one model's judgements by split.
    """
    failed = next((part for part in parts.values() if part.fitness is None), None)
    if failed is not None:
        return failed
    scores = _pooled([part.scores for part in parts.values()]) or ()
    return Judgement(judging.fitness(scores, tuple(parts)), scores)


def _pooled(parts: Sequence[Scores | None]) -> Scores | None:
    """One model's scores on several splits as one, None if it failed on any."""
    sound = [part for part in parts if part is not None]
    return tuple(_joined(scores) for scores in zip(*sound, strict=True)) if len(sound) == len(parts) else None


def _joined(scores: Sequence[BenchmarkScore]) -> BenchmarkScore:
    first = scores[0]
    columns = {field: tuple(one for score in scores for one in getattr(score, field)) for field in ("items", "groups", "values", "statistics")}
    return replace(first, **columns)
