"""What a step's judgements are handed to together: a pool of engines, of one for now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from psomerge.evals.engines.engine import Answers, Batch, Judge, ModelError, Watch
from psomerge.recipe import Recipe


@dataclass(frozen=True)
class Order:
    """One judgement to be made: a recipe's model on a named batch."""

    recipe: Recipe
    batch: str
    watch: Watch | None = None
    """Its own: orders may be carried out side by side."""


class Pool(Protocol):
    """Engines that share out orders among them."""

    def put(self, name: str, batch: Batch) -> None:
        """Hands over an evaluation set under a name."""
        ...

    def judge_all(self, orders: Sequence[Order]) -> Iterator[tuple[int, Answers | ModelError]]:
        """Yields each order's place and its answers, or what is wrong with its model, in the order in which they are
        finished. Raises EngineError where no engine could be kept alive."""
        ...


class OneEngine:
    """A `Pool` of one engine, which takes orders one after the other."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def put(self, name: str, batch: Batch) -> None:
        self._judge.put(name, batch)

    def judge_all(self, orders: Sequence[Order]) -> Iterator[tuple[int, Answers | ModelError]]:
        for place, order in enumerate(orders):
            try:
                yield place, self._judge.judge(order.recipe, order.batch, order.watch)
            except ModelError as error:
                yield place, error
