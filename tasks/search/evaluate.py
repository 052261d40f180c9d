"""One model on one evaluation set, part by part, so that a killed evaluation goes on where it was."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Judge
from psomerge.evals.engines.pool import OneEngine
from psomerge.evals.harness import EvaluationSet
from psomerge.evals.suites.fitness import fitness, needs_references
from psomerge.evals.suites.scores import BenchmarkScore
from psomerge.evals.suites.suite import Aggregate, Suite
from psomerge.recipe import Recipe
from psomerge.run.journal import Journal
from psomerge.tasks.search import items as traces
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging

PART = 1000
"""Requests that are judged, and journalled, at a time."""


@dataclass(frozen=True)
class Scored:
    """A model on benchmarks, and the files with its items."""

    scores: tuple[BenchmarkScore, ...]
    files: tuple[Path, ...]


def judge_part(judge: Judge, suite: Suite, recipe: Recipe, part: EvaluationSet, journal: Journal) -> Scored:
    """Returns the recipe's scores on a part of an evaluation set: from the journal, else made now.

    Args:
        judge: the engine.
        suite: of the whole set.
        recipe: of the model.
        part: its benchmarks are judged by themselves: floors and norms are of the whole.
        journal: of the evaluation; the items are kept beside it.

    Raises:
        EngineError: the model cannot be judged; the reason is in the text.
    """
    own = replace(
        suite, aggregate=Aggregate(), benchmarks=tuple(replace(one.benchmark, floor=None) for one in part.prepared)
    )
    folder = journal.path.parent
    judging = Judging(
        OneEngine(judge),
        own,
        {part.name: part},
        journal=journal,
        on_judgement=lambda label, judgement, made: None,
        on_items=lambda key, examples: traces.write(examples, traces.path_of(folder, key)),
    )
    judgement = judging.judge(recipe, part.name, Label("evaluate"))
    if judgement.fitness is None:
        raise EngineError(f"the model cannot be judged: {judgement.failure}")
    return Scored(judgement.scores, (traces.path_of(folder, judging.book.key(recipe, part.name)),))


def join(parts: Sequence[Scored]) -> Scored:
    """Returns the parts of one evaluation set as one."""
    return Scored(
        tuple(score for part in parts for score in part.scores), tuple(file for part in parts for file in part.files)
    )


def alone(suite: Suite, scores: Sequence[BenchmarkScore]) -> float:
    """Returns the suite's fitness of one model; where that is told beside base and experts, which are not here, the
    plain aggregate without norm and floors."""
    if needs_references(suite):
        suite = replace(
            suite,
            aggregate=replace(suite.aggregate, normalised=False),
            benchmarks=tuple(replace(one, floor=None) for one in suite.benchmarks),
        )
    return fitness(suite, scores)
