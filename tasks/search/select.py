"""From a finished search to one model: the best few, ranked again on validation and optimisation items together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from psomerge.evals.suites.scores import Judgement
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.history import Candidate
from psomerge.tasks.search.judge import Judging, pooled
from psomerge.tasks.search.steps import Course, Judged, contenders


@dataclass(frozen=True)
class Selection:
    """The contender chosen, and how all of them did."""

    chosen: Judged
    candidates: tuple[Candidate, ...]


def rerank(course: Course, judging: Judging, number: int) -> Selection:
    """Returns the best of the `number` best models, by fitness on validation and optimisation items together; of equals
    the one that the search ranked higher.

    Where every validation judgement failed, the search's own best stays.
    """
    best = contenders(course, number)
    validation = judging.judge_all(
        [one.recipe for one in best], "validation", [Label(f"re-rank {course.search.name}")] * len(best)
    )
    both = [
        pooled(judging, {"optimisation": one.judgement, "validation": two})
        for one, two in zip(best, validation, strict=True)
    ]
    place = _first_best(both)
    rows = (
        Candidate(one.step, one.particle, one.judgement.fitness or 0.0, two.fitness, i == place)
        for i, (one, two) in enumerate(zip(best, both, strict=True))
    )
    return Selection(best[place], tuple(rows))


def _first_best(judgements: Sequence[Judgement]) -> int:
    fitness = [-math.inf if judgement.fitness is None else judgement.fitness for judgement in judgements]
    return fitness.index(max(fitness))
