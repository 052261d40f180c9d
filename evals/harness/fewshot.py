"""Solved examples before an item: they come from documents that belong to no split, in no benchmark of the suite, and
ask nothing that an item of a split asks."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness.items import Documents, grouping, identity
from psomerge.evals.harness.questions import Asked, asking, compiled_once, numbered
from psomerge.evals.suites.suite import Suite

logger = logging.getLogger(__name__)

Marks = frozenset[str | int]
"""Of a document: its identity, its group, and what it asks."""


def draw_outside_splits(suite: Suite, tasks: Sequence[Any], documents: Sequence[Documents]) -> None:
    """Takes every document that a split holds, itself or by its group, from what the tasks' own samplers draw examples
    from.

    Args:
        suite: of the benchmarks.
        tasks: of the benchmarks, in order; each knows how many examples it wants; changed in place.
        documents: of the benchmarks.

    Raises:
        ArtefactError: fewer examples are left than wanted.
        ConfigError: a task that has no sampler of the harness.
    """
    wanted = [task.config.num_fewshot or 0 for task in tasks]
    pools = [
        _pool(suite, number, task, documents[number].general) if wanted[number] else []
        for number, task in enumerate(tasks)
    ]
    known = [one for own in documents for one in own.questions]
    asked = numbered([*known, *(question for pool in pools for _, _, question in pool)])
    questions, of_examples = asked[: len(known)], iter(asked[len(known) :])
    marked = [[(doc, _marks(names, next(of_examples))) for doc, names, _ in pool] for pool in pools]
    held, kin = _held(documents, questions, [marks for pool in marked for _, marks in pool])
    out = held | kin
    for number, (benchmark, task) in enumerate(zip(suite.benchmarks, tasks, strict=True)):
        if not wanted[number]:
            continue
        where = f"suite {suite.name}: benchmark {benchmark.name}"
        pool = [doc for doc, marks in marked[number] if not out & marks]
        alike = sum(not held & marks for _, marks in marked[number]) - len(pool)
        # The harness draws one more where examples and items are of one split of the data, in case it draws the item
        # itself.
        needed = wanted[number] + (task.fewshot_cfg.split == task.config.test_split)
        if len(pool) < needed:
            same = f" ({alike} ask what an item of a split asks, or are of a group with one that does)" if alike else ""
            raise ArtefactError(
                f"{where}: expected at least {needed} examples that belong to no split, found {len(pool)} of "
                f"{len(pools[number])}{same}; leave a remainder in `shares`, or set a smaller num_fewshot"
            )
        if alike:
            logger.warning(
                "%s: %d examples ask what an item asks, or are of a group with one, and are not shown", where, alike
            )
        task.sampler.replace_df(pool)


def _pool(
    suite: Suite, number: int, task: Any, general: bool
) -> list[tuple[Mapping[str, Any], set[str], Asked | None]]:
    """The documents that a task draws its examples from, with identity and group, and what they ask."""
    benchmark = suite.benchmarks[number]
    where = f"suite {suite.name}: benchmark {benchmark.name}"
    if getattr(task, "sampler", None) is None:
        raise ConfigError(f"{where}: task {benchmark.task} has no examples to draw from; set num_fewshot: 0")
    group_of, asks = grouping(benchmark.group, where), asking(task)
    with compiled_once():
        return [(doc, _names(group_of, doc), asks(doc, general)) for doc in task.sampler.df]


def _marks(names: set[str], question: int | None) -> Marks:
    return frozenset(names if question is None else {*names, question})


def _held(
    documents: Sequence[Documents], questions: Sequence[int | None], examples: Sequence[Marks]
) -> tuple[Marks, Marks]:
    """The identities and groups that splits hold, with the items left out, and what is held besides: what their items
    ask, and the groups and questions of examples that ask the same, of examples of these groups, and so on."""
    names: set[str | int] = {one.names[place] for one in documents for place in one.left_out}
    kin: set[str | int] = set()
    numbers = iter(questions)
    for one in documents:
        for place, split in enumerate(one.splits):
            question = next(numbers)
            if split:
                names |= {one.names[place], one.own_groups[place], one.groups[place]}
                if question is not None:
                    kin.add(question)
    grew = True
    while grew:
        before = len(kin)
        for marks in examples:
            if marks & kin:
                kin |= marks
        grew = len(kin) > before
    return frozenset(names), frozenset(kin)


def _names(group_of: Callable[[Mapping[str, Any], str], str], doc: Mapping[str, Any]) -> set[str]:
    """Identity and group of an example; one from elsewhere may lack the fields of a group."""
    name = identity(doc)
    try:
        return {name, group_of(doc, name)}
    except Exception:  # whatever a template over fields that are not there may raise
        return {name}
