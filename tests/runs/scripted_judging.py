"""Judging without a model: real evaluation sets of six items each (three countries in two languages), and an engine
that is told how many a recipe knows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from places import TOY
from psomerge.evals.engines.engine import Loglikelihood
from psomerge.evals.engines.pool import OneEngine
from psomerge.evals.engines.scripted import ScriptedEngine
from psomerge.evals.harness import EvaluationSet, build_all
from psomerge.evals.stopping.policy import EXACT, Stopping
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.scores import Judgement
from psomerge.evals.suites.splits import SPLITS
from psomerge.evals.suites.suite import Suite
from psomerge.recipe import Recipe, Source
from psomerge.run.journal import Journal
from psomerge.tasks.search.book import Label
from psomerge.tasks.search.judge import Judging

ITEMS = 6
RUN_KEY = "0123456789abcdef"
Known = Callable[[Recipe, str], float]
"""How many of a split's six items a recipe's model answers right; NaN where its log-likelihoods are none. May raise
what an engine raises."""


def capitals(folder: Path, aggregate: str = "{}", floor: str = "") -> Suite:
    """A suite of two benchmarks with three items in each of optimisation and validation."""
    path = folder / "capitals.yaml"
    path.write_text(
        "name: capitals\nsalt: toy-1\nshares: {optimisation: 0.4, validation: 0.2, test: 0.4}\ngroup: "
        "country\nlimits: {test: 3}\n"
        f"include: [{TOY}]\n"
        f"aggregate: {aggregate}\nbenchmarks:\n  - {{task: toy_pick, languages: [en, 'NO'], metric: acc{floor}}}\n"
    )
    return load_suite(path)


def built(suite: Suite, tokenizer: Path) -> dict[str, EvaluationSet]:
    """All splits, six items each."""
    sets = build_all(suite, SPLITS, tokenizer, allow_task_code=True)
    assert {name: sum(map(len, one.items.values())) for name, one in sets.items()} == dict.fromkeys(sets, ITEMS)
    return sets


def recipe_of(experts: int, rows: int = 1) -> Recipe:
    """Base and experts that differ by their digests and exist nowhere."""
    sources = [
        Source(name, "", "", {"model.safetensors": name})
        for name in ("base", *(f"expert{number}" for number in range(1, experts + 1)))
    ]
    return Recipe(sources[0], tuple(sources[1:]), coefficients=((0.0,) * experts,) * rows)


def scripted(sets: Mapping[str, EvaluationSet], known: Known) -> ScriptedEngine:
    """An engine whose model knows the first `known(recipe, split)` items of a split and picks a wrong choice on the
    others."""
    place: dict[Loglikelihood, tuple[str, int, bool]] = {}
    for split, one in sets.items():
        number = 0
        for prepared in one.prepared:
            for doc, item in enumerate(prepared.items.docs):
                asked = [
                    where
                    for instance, where in zip(prepared.task.instances, prepared.asked, strict=True)
                    if instance.doc_id == doc
                ]
                place |= {
                    one.batch.loglikelihood[where]: (split, number, choice == item["answer"])
                    for choice, where in enumerate(asked)
                }
                number += 1

    def logprob(recipe: Recipe, request: Loglikelihood) -> float:
        split, number, right = place[request]
        count = known(recipe, split)
        return count if count != count else -2.0 if not right else -1.0 if number < count else -3.0

    return ScriptedEngine(logprob)


def judging(
    folder: Path,
    suite: Suite,
    sets: Mapping[str, EvaluationSet],
    engine: ScriptedEngine,
    told: list[Label] | None = None,
    guard: Callable[[], None] = lambda: None,
    references: Sequence[Recipe] = (),
    stopping: Stopping = EXACT,
) -> Judging:
    """Judging with a journal in `folder`, opened as a new process would."""
    listed, journal = [] if told is None else told, Journal(folder / "journal.jsonl", RUN_KEY)
    told_to: Callable[[Label, Judgement, bool], None] = lambda label, judgement, made: listed.append(label)  # noqa: E731
    return Judging(
        OneEngine(engine),
        suite,
        sets,
        journal=journal,
        on_judgement=told_to,
        guard=guard,
        references=references,
        stopping=stopping,
    )
