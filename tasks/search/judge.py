"""Judging: a recipe on an evaluation set gives a fitness, once; the journal keeps it for ever.

A judgement's key is the digest of the recipe's tensors and of the evaluation set, so a particle that did not move, and
a run that goes on after a crash, find what is known already.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Answers, Judge, ModelError, Watch
from psomerge.evals.harness import Drawn, EvaluationSet, FailedBenchmark, Tally
from psomerge.evals.stopping.early import ExactStop, SequentialStop
from psomerge.evals.suites.fitness import References, aggregate, fitness, missing, monotone, needs_references, slopes
from psomerge.evals.suites.scores import Example, Judgement, Scores, together
from psomerge.evals.suites.suite import Suite
from psomerge.files.digest import digest_of
from psomerge.recipe import Recipe
from psomerge.run.journal import Journal
from psomerge.tasks.search.journal_memory import JournalMemory

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
        references: Sequence[Recipe] = (),
        keep: Callable[[str, Sequence[Example]], None] = lambda key, examples: None,
        error_rate: float | None = None,
    ) -> None:
        """Hands the evaluation sets to the engine.

        Args:
            judge: the engine.
            suite: says how scores become fitness.
            sets: by split.
            journal: of the run.
            told: called after every judgement, made or found.
            guard: called after the engine's work, before any of it counts; raises if the files behind the recipes are
                no longer those of the recipes.
            keep: called with a judgement's key and its items, before the journal knows of it.
            references: the base, then the experts: where the suite's fitness is told beside them, they are judged first
                on every split.
            error_rate: of stopping a model that would have won, on sets that are shuffled; None: only what certainly
                cannot win is stopped.
        """
        self.memory = JournalMemory(journal)
        self._keep, self._error_rate = keep, error_rate
        self._recipes = tuple(references) if needs_references(suite) else ()
        self._reference_scores: dict[str, list[Scores | None]] = {}
        self._tallies: dict[str, Tally] = {}
        self._drawn: dict[str, Drawn] = {}
        self._judge, self._suite, self._sets, self._journal, self._told, self._guard = (
            judge,
            suite,
            dict(sets),
            journal,
            told,
            guard,
        )
        for name, one in self._sets.items():
            judge.put(name, one.batch)

    def key(self, recipe: Recipe, split: str) -> str:
        """Returns 64 hex digits that name this judgement."""
        return digest_of([recipe.digest(), self._sets[split].digest])

    def known(self, recipe: Recipe, split: str) -> bool:
        """Returns whether the judgement was made before."""
        return self._journal.judgement(self.key(recipe, split)) is not None

    def judge(self, recipe: Recipe, split: str, label: Label, best: Judgement | None = None) -> Judgement:
        """Returns the judgement of the recipe's model on a split: from the journal, else made now and journalled.

        Args:
            recipe: of the model.
            split: of the suite.
            label: what for.
            best: only a fitness above this one's is of interest: once it cannot be reached, the judgement is stopped.
                None: it is made to its end. An earlier one that was stopped counts if its bound is not above that; else
                it is made again, to its end, and its later line in the journal holds.

        Raises:
            EngineError: the engine could not be kept alive. A model or benchmark that fails is no error, but a
                judgement without fitness.
        """
        self.references((split,))
        entry = self._journal.judgement(self.key(recipe, split))
        bound = None if entry is None else entry.get("bound")
        if entry is None or (bound is not None and (best is None or best.fitness is None or bound > best.fitness)):
            entry = self._journal.append(
                self._entry(recipe, split, label, *self._measure(recipe, split, best if entry is None else None))
            )
        judgement = self._read(entry, split)
        self._told(label, judgement)
        return judgement

    def judge_all(
        self, recipes: Sequence[Recipe], split: str, labels: Sequence[Label], bests: Sequence[Judgement | None] = ()
    ) -> list[Judgement]:
        """Returns the judgements of a step's whole list, in order; `bests` are given for all or none."""
        return [
            self.judge(*one)
            for one in zip(recipes, [split] * len(recipes), labels, bests or [None] * len(recipes), strict=True)
        ]

    def answers(self, recipe: Recipe, split: str, watch: Watch | None = None) -> Answers:
        """Returns the engine's raw answers, made now. Raises EngineError, and what the guard raises: files that changed
        explain a lost engine, too."""
        try:
            return self._judge.judge(recipe, split, watch)
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
        return References.of(together(base) or (), [scores for parts in experts if (scores := together(parts))])

    def _judge_references(self, split: str) -> list[Scores | None]:
        """Base and experts on a split. Their lines are written when all are judged: the fitness of each needs the
        others."""
        known = [self._journal.judgement(self.key(recipe, split)) for recipe in self._recipes]
        found = [
            (self._read(entry, split).scores or None, entry) if entry else self._measure(recipe, split)
            for recipe, entry in zip(self._recipes, known, strict=True)
        ]
        self._reference_scores[split] = [scores for scores, _ in found]
        if found[0][0] is None:
            raise EngineError(
                f"the base could not be judged on the {split} items, and the suite's fitness is told beside it: "
                f"{found[0][1]['failure']}"
            )
        for recipe, entry, one in zip(self._recipes, known, found, strict=True):
            if entry is None:
                self._journal.append(self._entry(recipe, split, Label("reference"), *one))
        return self._reference_scores[split]

    def _measure(
        self, recipe: Recipe, split: str, best: Judgement | None = None
    ) -> tuple[Scores | None, dict[str, Any]]:
        """Scores of a recipe's model, None if it cannot be judged or was stopped; and what the journal keeps of the
        judgement beside fitness and label."""
        try:
            stop = self._stop(split, best)
            answers = self.answers(recipe, split, stop)
            spent: dict[str, Any] = {
                "seconds": answers.seconds,
                "peak_bytes": answers.peak_bytes,
                "tokens": answers.tokens,
            }
            if stop and stop.bound is not None:
                asked = {"answered": stop.answered, "of": len(self._sets[split].batch)}
                return None, {
                    "failure": None,
                    "bound": stop.bound,
                    "risk": stop.risk,
                    **asked,
                    **spent,
                    "tokens_of": self._tokens_to_the_end(split),
                }
            examined = self._sets[split].examine(answers, self.memory)
        except (ModelError, FailedBenchmark) as error:
            logger.warning("judgement failed: %s", error)
            return None, {"failure": str(error)}
        scores = tuple(score for score, _ in examined)
        self._keep(self.key(recipe, split), [example for _, examples in examined for example in examples])
        numbers: dict[str, Any] = {"values": {score.benchmark: score.values for score in scores}}
        if statistics := {score.benchmark: score.statistics for score in scores if score.corpus}:
            numbers["statistics"] = statistics
        return scores, {"failure": None, **numbers, **spent}

    def _stop(self, split: str, best: Judgement | None) -> ExactStop | None:
        """What ends a judgement on a split whose fitness cannot exceed that of `best`; None where nothing can be said
        before its end."""
        if best is None or best.fitness is None or not monotone(self._suite):
            return None
        if split not in self._tallies:
            self._tallies[split] = self._sets[split].tally()
        tally, references = self._tallies[split], self.references((split,))
        told: Callable[[Mapping[str, float]], float] = lambda found: aggregate(self._suite, found, references)  # noqa: E731
        linear = slopes(self._suite, references)
        if self._error_rate is None or linear is None or missing(self._suite, best.scores, references):
            return ExactStop(tally, told, best.fitness)
        if split not in self._drawn:
            self._drawn[split] = self._sets[split].drawn(tally)
        drawn = self._drawn[split]
        return SequentialStop(
            tally, told, best.fitness, best=best.scores, slopes=linear, drawn=drawn, error_rate=self._error_rate
        )

    def _tokens_to_the_end(self, split: str) -> int:
        """Tokens of the last judgement on a split that was made to its end: of log-likelihoods every model costs the
        same, of texts about so many."""
        made = (
            line
            for line in reversed(self._journal.entries)
            if line["kind"] == "judgement" and line["split"] == split and line["fitness"] is not None
        )
        return next((line["tokens"] for line in made), 0)

    def _entry(
        self, recipe: Recipe, split: str, label: Label, scores: Scores | None, measured: Mapping[str, Any]
    ) -> dict[str, Any]:
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
        if entry["failure"] is not None:
            return Judgement(None, failure=entry["failure"])
        spent = {name: entry[name] for name in ("seconds", "peak_bytes", "tokens")}
        if entry["fitness"] is None:
            return Judgement(None, bound=entry["bound"], risk=entry["risk"], **spent, tokens_of=entry["tokens_of"])
        scores = self._sets[split].with_values(entry["values"], entry.get("statistics", {}))
        return Judgement(entry["fitness"], scores, **spent, tokens_of=entry["tokens"])


def pooled(judging: Judging, parts: Mapping[str, Judgement]) -> Judgement:
    """Returns the judgement on the items of several splits together: benchmark by benchmark, every item counts once.

    Args:
        judging: tells the fitness.
        parts: one model's judgements by split.
    """
    failed = next((part for part in parts.values() if part.fitness is None), None)
    if failed is not None:
        return failed
    scores = together([part.scores for part in parts.values()]) or ()
    return Judgement(judging.fitness(scores, tuple(parts)), scores)
