"""The engine's process loads a model once for several batches, and again after anything else."""

import pytest

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Batch, Loglikelihood
from psomerge.evals.engines.process.serve import Holder
from psomerge.evals.engines.scripted import ScriptedEngine
from psomerge.recipe import Recipe, Source

RECIPE = Recipe(Source("base", "", "", {}), (Source("math", "", "", {}),), coefficients=((0.5,),))
ONE, TWO = (Batch((Loglikelihood((number,), (2,)),)) for number in (0, 1))


class Counting(ScriptedEngine):
    """Knows which recipes were loaded; one with coefficient 9 fails."""

    def __init__(self) -> None:
        super().__init__(lambda recipe, request: -recipe.coefficients[0][0] - request.context[0])
        self.loaded: list[float] = []

    def load(self, recipe: Recipe) -> dict[str, float]:
        self.loaded.append(recipe.coefficients[0][0])
        if recipe.coefficients[0][0] == 9:
            raise EngineError("a check failed")
        return super().load(recipe)


def test_a_model_is_loaded_once_for_several_batches() -> None:
    engine = Counting()
    holder = Holder(engine)
    other = RECIPE.with_coefficients([[0.25]])
    answers = [
        holder.judge(recipe, batch) for recipe, batch in ((RECIPE, ONE), (RECIPE, TWO), (other, TWO), (RECIPE, TWO))
    ]
    assert [one.loglikelihood[0].logprob for one in answers] == [-0.5, -1.5, -1.25, -1.5]
    assert engine.loaded == [0.5, 0.25, 0.5]
    assert [set(one.seconds) >= {"load"} for one in answers] == [True, False, True, True]


def test_a_model_that_failed_its_checks_is_loaded_again() -> None:
    engine = Counting()
    holder = Holder(engine)
    bad = RECIPE.with_coefficients([[9.0]])
    holder.judge(RECIPE, ONE)
    for _ in range(2):
        with pytest.raises(EngineError, match="a check failed"):
            holder.judge(bad, ONE)
    holder.judge(RECIPE, ONE)
    assert engine.loaded == [0.5, 9, 9, 0.5]
