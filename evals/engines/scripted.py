"""An engine whose answers are functions of recipe and request: for tests of everything above the seam."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from psomerge.evals.engines.engine import Answers, Batch, Capabilities, Continuation, Generation, Loglikelihood, Watch
from psomerge.recipe import Recipe


class ScriptedEngine:
    """`Engine` and `Judge` in one."""

    capabilities = Capabilities("scripted", "1", "none", "float64", 1, True)

    def __init__(
        self,
        logprob: Callable[[Recipe, Loglikelihood], float],
        text: Callable[[Recipe, Generation], str] = lambda recipe, request: "",
    ) -> None:
        self._logprob, self._text = logprob, text
        self._recipe: Recipe | None = None
        self._batches: dict[str, Batch] = {}
        self.judged: list[Recipe] = []

    def load(self, recipe: Recipe) -> dict[str, float]:
        self._recipe = recipe
        return {"merge": 0.0, "load": 0.0, "reset": 0.0, "canary": 0.0}

    def loglikelihood(self, requests: Sequence[Loglikelihood]) -> list[Continuation]:
        assert self._recipe is not None, "load a recipe first"
        return [Continuation(self._logprob(self._recipe, request), False) for request in requests]

    def generate(self, requests: Sequence[Generation]) -> list[str]:
        assert self._recipe is not None, "load a recipe first"
        return [self._text(self._recipe, request) for request in requests]

    def answer(self, batch: Batch, watch: Watch | None = None) -> Answers:
        found: tuple[list[Continuation], list[str]] = ([], [])
        stops, tokens = set(watch.start()) if watch else set(), 0
        for number, request in enumerate((*batch.loglikelihood, *batch.generation), 1):
            if isinstance(request, Loglikelihood):
                found[0].extend(self.loglikelihood([request]))
                tokens += len(request.context + request.continuation)
            else:
                found[1].extend(self.generate([request]))
                tokens += len(request.prompt)
            if watch and number in stops and not watch.go_on(Answers(tuple(found[0]), tuple(found[1]))):
                break
        return Answers(tuple(found[0]), tuple(found[1]), tokens=tokens)

    def put(self, name: str, batch: Batch) -> None:
        self._batches[name] = batch

    def judge(self, recipe: Recipe, name: str, watch: Watch | None = None) -> Answers:
        seconds = self.load(recipe)
        self.judged.append(recipe)
        return replace(self.answer(self._batches[name], watch), seconds=seconds | {"score": 0.0})

    def close(self) -> None:
        pass
