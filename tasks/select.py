"""From a finished search to one model: the best few, ranked again on validation and optimisation items together."""

from collections.abc import Sequence
from dataclasses import dataclass

from evals.scores import Judgement
from evals.suite import Suite
from tasks.judge import Judging, Label, pooled
from tasks.search import Contender, Search, contenders
from tasks.summary import Candidate


@dataclass(frozen=True)
class Selection:
    """The contender chosen, and how all of them did."""

    chosen: Contender
    candidates: tuple[Candidate, ...]


def rerank(search: Search, suite: Suite, judging: Judging, number: int) -> Selection:
    """Returns the best of the `number` best models, by fitness on validation and optimisation items together; of equals the one that the search ranked higher.

    Where every validation judgement failed, the search's own best stays.
    """
    best = contenders(search, number)
    both = [pooled(suite, (one.judgement, judging.judge(one.recipe, "validation", Label(f"re-rank {search.name}")))) for one in best]
    place = _first_best(both)
    rows = (
        Candidate(one.step, one.particle, one.judgement.fitness or 0.0, two.fitness, i == place) for i, (one, two) in enumerate(zip(best, both, strict=True))
    )
    return Selection(best[place], tuple(rows))


def _first_best(judgements: Sequence[Judgement]) -> int:
    fitness = [-1.0 if judgement.fitness is None else judgement.fitness for judgement in judgements]
    return fitness.index(max(fitness))
