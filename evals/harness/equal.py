"""Items that ask the same, under whatever names and in whatever benchmark, kept together: one group, one split.

An item that asks what one of group A asks and what one of group B asks makes one group of both. What a suite's data put
into a split by a field of their own stays there, but where the same is asked in another split, the one that is more
held out keeps it and the others lose it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from psomerge.evals.harness.items import Documents
from psomerge.evals.harness.questions import numbered
from psomerge.evals.suites.splits import SPLITS, split_of
from psomerge.evals.suites.suite import Suite

Place = tuple[int, int]
"""Numbers of a benchmark and of a document of it."""


@dataclass(frozen=True)
class Equal:
    """What was joined."""

    questions: int = 0
    """Asked by several items that the suite does not put into one group and split by itself."""
    items: int = 0
    """That ask them."""
    apart: int = 0
    """Of the questions: how many stood in several splits, or in one and among the rest that examples come from."""
    left_out: int = 0
    """Items that belong to no split any more."""
    instance: str = ""
    """One pair of them, in words."""

    def __str__(self) -> str:
        """In one line; empty where nothing was joined."""
        if not self.questions:
            return ""
        lost = f"; {self.left_out} items are left out, as a split that is more held out asks the same"
        return (
            f"{self.questions} questions are asked under several names, by {self.items} items: each is one group and "
            f"in one split now ({self.apart} were in several){lost if self.left_out else ''}; such as {self.instance}"
        )


def join_equal(suite: Suite, documents: Sequence[Documents]) -> tuple[list[Documents], Equal]:
    """Returns the documents with what asks the same in one group, named as the first of its groups in order of text,
    and one split; and what was joined.

    Args:
        suite: its salt and shares decide the splits of groups.
        documents: of each benchmark.
    """
    asked = _several(documents)
    names = _joined(documents, asked)
    grouped = [replace(one, groups=tuple(names.get(group, group) for group in one.own_groups)) for one in documents]
    splits = _splits(suite, grouped, asked, set(names))
    made = [replace(one, splits=tuple(own)) for one, own in zip(grouped, splits, strict=True)]
    return made, _told(suite, documents, made, asked)


def _several(documents: Sequence[Documents]) -> dict[int, list[Place]]:
    """The questions that several items ask, and where."""
    places = [(number, place) for number, one in enumerate(documents) for place in range(len(one.questions))]
    found: dict[int, list[Place]] = {}
    for question, place in zip(numbered([one for own in documents for one in own.questions]), places, strict=True):
        if question is not None:
            found.setdefault(question, []).append(place)
    return {question: asked for question, asked in found.items() if len(asked) > 1}


def _joined(documents: Sequence[Documents], asked: Mapping[int, list[Place]]) -> dict[str, str]:
    """The new name of each group that is joined with another."""
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while (above := parent.get(group, group)) != group:
            parent[group] = parent.get(above, above)
            group = above
        return group

    for places in asked.values():
        groups = sorted({root(documents[number].own_groups[place]) for number, place in places})
        for group in groups[1:]:
            parent[group], parent[groups[0]] = groups[0], groups[0]
    return {group: root(group) for group in list(parent)}


def _splits(
    suite: Suite, documents: Sequence[Documents], asked: Mapping[int, list[Place]], joined: set[str]
) -> list[list[str | None]]:
    """The split of each item: that of its group, or the one that its data name as long as no other asks the same."""
    splits = [list(one.splits) for one in documents]
    named = [bool(benchmark.split) for benchmark in suite.benchmarks]
    of_group: dict[str, str | None] = {}
    for number, place in (one for places in asked.values() for one in places):
        group, split = documents[number].groups[place], splits[number][place]
        if named[number]:  # what is not named by the data follows
            of_group[group] = max((of_group.get(group), split), key=_held)
    for number, one in enumerate(documents):
        for place, (own, group) in enumerate(zip(one.own_groups, one.groups, strict=True)):
            if place in one.left_out:
                continue
            if not named[number] and (own in joined or group in of_group):
                if group not in of_group:
                    of_group[group] = split_of(suite.salt, group, suite.shares)
                splits[number][place] = of_group[group]
    for places in asked.values():
        kept = max((splits[number][place] for number, place in places), key=_held)
        for number, place in places:
            if splits[number][place] != kept:
                splits[number][place] = None
    return splits


def _held(split: str | None) -> int:
    """How much a split is held out: the test split most."""
    return SPLITS.index(split) if split else -1


def _told(
    suite: Suite, before: Sequence[Documents], after: Sequence[Documents], asked: Mapping[int, list[Place]]
) -> Equal:
    """What the suite's own groups and splits would not have kept together."""
    changed = [
        places
        for places in asked.values()
        if len({before[number].own_groups[place] for number, place in places}) > 1
        or len({before[number].splits[place] for number, place in places}) > 1
    ]
    if not changed:
        return Equal()
    apart = sum(len({before[number].splits[place] for number, place in places}) > 1 for places in changed)
    left = sum(
        before[number].splits[place] is not None and after[number].splits[place] is None
        for number, one in enumerate(suite.benchmarks)
        for place in (range(len(after[number].splits)) if one.split else ())
    )
    words = [
        f"item {before[number].names[place]} of benchmark {suite.benchmarks[number].name}"
        for number, place in changed[0][:2]
    ]
    return Equal(len(changed), sum(map(len, changed)), apart, left, " and ".join(words))
