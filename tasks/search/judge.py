"""Judging: a recipe on an evaluation set gives a fitness, once; the book keeps it for ever.

A particle that did not move, and a run that goes on after a crash, find what is known already. Judgements of one step
may be made side by side: they share nothing that changes.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from psomerge.errors import EngineError, VerificationError
from psomerge.evals.engines.engine import Answers, ModelError
from psomerge.evals.engines.pool import Order, Pool
from psomerge.evals.harness import EvaluationSet, FailedBenchmark
from psomerge.evals.stopping.early import ExactStop
from psomerge.evals.stopping.policy import EXACT, Stopping
from psomerge.evals.suites.fitness import References, fitness, needs_references
from psomerge.evals.suites.scores import Example, Judgement, Scores, together
from psomerge.evals.suites.suite import Suite
from psomerge.recipe import Recipe
from psomerge.run.journal import Journal
from psomerge.tasks.search.book import Book, Label
from psomerge.tasks.search.journal_memory import JournalMemory

logger = logging.getLogger(__name__)


class Judging:
    """Judgements of recipes on the splits of one suite, by a pool of engines, remembered in one journal."""

    def __init__(
        self,
        pool: Pool,
        suite: Suite,
        sets: Mapping[str, EvaluationSet],
        *,
        journal: Journal,
        on_judgement: Callable[[Label, Judgement, bool], None],
        guard: Callable[[], None] = lambda: None,
        references: Sequence[Recipe] = (),
        on_items: Callable[[str, Sequence[Example]], None] = lambda key, examples: None,
        stopping: Stopping = EXACT,
    ) -> None:
        """Hands the evaluation sets to the engines.

        Args:
            pool: of engines.
            suite: says how scores become fitness.
            sets: by split.
            journal: of the run.
            on_judgement: called after every judgement; its last argument is whether it was made, or found in the
                book.
            guard: called after an engine's work, before any of it counts; raises if the files behind the recipes are
                no longer those of the recipes.
            references: the base, then the experts: where the suite's fitness is told beside them, they are judged first
                on every split.
            on_items: called with a judgement's key and its items, before the journal knows of it.
            stopping: which judgements end early.
        """
        self.book, self.memory = Book(journal, sets), JournalMemory(journal)
        self._pool, self._suite, self._sets, self._on_judgement, self._guard = (
            pool,
            suite,
            dict(sets),
            on_judgement,
            guard,
        )
        self._on_items, self._stopping = on_items, stopping
        self._recipes = tuple(references) if needs_references(suite) else ()
        self._reference_scores: dict[str, list[Scores | None]] = {}
        for name, one in self._sets.items():
            pool.put(name, one.batch)

    def judge(self, recipe: Recipe, split: str, label: Label, best: Judgement | None = None) -> Judgement:
        """Returns the judgement of one recipe; as `judge_all`."""
        return self.judge_all([recipe], split, [label], [best])[0]

    def judge_all(
        self,
        recipes: Sequence[Recipe],
        split: str,
        labels: Sequence[Label],
        bests: Sequence[Judgement | None] | None = None,
    ) -> list[Judgement]:
        """Returns the judgements of the recipes' models on a split, in order: from the book, else made now and added.

        Args:
            recipes: of the models, e.g. of a step's particles.
            split: of the suite.
            labels: what each is for.
            bests: for each, the judgement that it must exceed to be of interest: once it cannot, it is stopped. None:
                it is made to its end. An earlier one that was stopped counts if its bound is not above that; else it
                is made again, to its end.

        Raises:
            EngineError: no engine could be kept alive. A model or benchmark that fails is no error, but a judgement
                without fitness.
        """
        references = self.references((split,))
        beat = bests or [None] * len(recipes)
        found: dict[int, Judgement] = {}
        while waiting := [place for place in range(len(recipes)) if place not in found]:
            asked: dict[str, int] = {}  # equal recipes are judged once; what is stopped for one may count for another
            for place in waiting:
                known = self.book.find(recipes[place], split)
                if known is not None and _counts(known, beat[place]):
                    found[place] = known
                    self._on_judgement(labels[place], known, False)
                else:
                    asked.setdefault(self.book.key(recipes[place], split), place)
            places = list(asked.values())
            stops = [
                self._stopping.watch(self._suite, self._sets[split], beat[place], references)
                if self.book.find(recipes[place], split) is None
                else None
                for place in places
            ]
            orders = [Order(recipes[place], split, stop) for place, stop in zip(places, stops, strict=True)]
            for number, answers in self._answered(orders):
                place = places[number]
                judgement = self._with_fitness(self._scored(recipes[place], split, answers, stops[number]), split)
                found[place] = self.book.add(recipes[place], split, labels[place], judgement)
                self._on_judgement(labels[place], found[place], True)
        return [found[place] for place in range(len(recipes))]

    def ask_again(self, recipe: Recipe, split: str) -> Answers:
        """Returns the raw answers of a model that was judged before, made now.

        Raises:
            VerificationError: they score otherwise than before.
            EngineError: the model cannot be judged; and what the guard raises: files that changed explain a lost
                engine, too.
        """
        ((_, answers),) = self._answered([Order(recipe, split)])
        if isinstance(answers, ModelError):
            raise answers
        known = self.book.find(recipe, split)
        if known is None or known.scores != self._sets[split].score(answers, self.memory):
            raise VerificationError(
                f"the model scores otherwise than before on the {split} items (journal key "
                f"{self.book.key(recipe, split)[:12]}); the engine is not repeatable"
            )
        return answers

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
        known = [self.book.find(recipe, split) for recipe in self._recipes]
        new = [place for place, one in enumerate(known) if one is None]
        made = {
            new[number]: self._scored(self._recipes[new[number]], split, answers)
            for number, answers in self._answered([Order(self._recipes[place], split) for place in new])
        }
        judged = [one or made[place] for place, one in enumerate(known)]
        self._reference_scores[split] = [one.scores or None for one in judged]
        if not judged[0].scores:
            raise EngineError(
                f"the base could not be judged on the {split} items, and the suite's fitness is told beside it: "
                f"{judged[0].failure}"
            )
        for place in new:
            judgement = self._with_fitness(judged[place], split)
            self.book.add(self._recipes[place], split, Label("reference"), judgement)
        return self._reference_scores[split]

    def _answered(self, orders: Sequence[Order]) -> Iterator[tuple[int, Answers | ModelError]]:
        """Each order's place and answers, once the guard lets them count."""
        answers = self._pool.judge_all(orders)
        for _ in orders:
            try:
                one = next(answers)
            finally:
                self._guard()
            yield one

    def _scored(
        self, recipe: Recipe, split: str, answers: Answers | ModelError, stop: ExactStop | None = None
    ) -> Judgement:
        """A judgement from a model's answers, its fitness still to come."""
        try:
            if isinstance(answers, ModelError):
                raise answers
            spent = Judgement(None, seconds=answers.seconds, peak_bytes=answers.peak_bytes, tokens=answers.tokens)
            if stop and stop.bound is not None:
                requests = len(self._sets[split].batch)
                return replace(spent, bound=stop.bound, risk=stop.risk, answered=stop.answered, requests=requests)
            examined = self._sets[split].examine(answers, self.memory)
        except (ModelError, FailedBenchmark) as error:
            logger.warning("judgement failed: %s", error)
            return Judgement(None, failure=str(error))
        self._on_items(self.book.key(recipe, split), [example for _, examples in examined for example in examples])
        return replace(spent, scores=tuple(score for score, _ in examined))

    def _with_fitness(self, judgement: Judgement, split: str) -> Judgement:
        scores = judgement.scores
        return replace(judgement, fitness=self.fitness(scores, (split,))) if scores else judgement


def _counts(known: Judgement, best: Judgement | None) -> bool:
    """Whether a judgement says enough: one that was stopped does only if its bound is not above what is to beat."""
    return known.bound is None or (best is not None and best.fitness is not None and known.bound <= best.fitness)


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
