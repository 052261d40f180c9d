"""Which documents of a task belong to a split, and what they are called: stable identities, groups, subsamples."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness.questions import Asked, asking, is_general
from psomerge.evals.suites.splits import SPLITS, split_of, subsample
from psomerge.evals.suites.suite import Benchmark, Suite


@dataclass(frozen=True)
class Items:
    """The chosen documents of a task, in its order; all four of one length, at least 1."""

    indices: tuple[int, ...]
    """Among the task's documents, ascending."""
    names: tuple[str, ...]
    groups: tuple[str, ...]
    docs: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Documents:
    """All documents of a task, in its order, and the split that each belongs to; all of one length."""

    docs: Any
    """As the task holds them, on disk where `datasets` has them there; only those that are chosen are kept."""
    names: tuple[str, ...]
    own_groups: tuple[str, ...]
    """As the suite's `group` says."""
    groups: tuple[str, ...]
    """Those that ask the same joined: see `evals.harness.equal`."""
    splits: tuple[str | None, ...]
    left_out: frozenset[int]
    """Places of those that the suite names as such: they have no split, and ask nothing."""
    questions: tuple[Asked | None, ...]
    """What each asks."""
    general: bool
    """Whether the prompts say too little to be what is asked; see `evals.harness.questions`."""


def sort_documents(suite: Suite, benchmark: Benchmark, task: Any) -> Documents:
    """The documents of a benchmark with their names, groups and splits.

    Args:
        suite: its salt and shares decide the splits.
        benchmark: says how items are grouped.
        task: the lm-eval task.

    Raises:
        ArtefactError: an item belongs to no group.
        ConfigError: the group is neither a field of the documents nor a template, or the split's field is missing or
            names none.
    """
    where = f"suite {suite.name}: benchmark {benchmark.name}"
    docs, group_of, asks = task.eval_docs, grouping(benchmark.group, where), asking(task)
    names = distinct([identity(doc) for doc in docs])
    left_out = frozenset(place for place, name in enumerate(names) if name in benchmark.leave_out)
    groups: list[str] = []
    splits: list[str | None] = []
    asked: list[Asked | None] = []
    for place, doc in enumerate(docs):  # one is in memory at a time
        if place in left_out:
            groups.append(names[place])
            splits.append(None)
            asked.append(None)
            continue
        asked.append(asks(doc, False))
        groups.append(group_of(doc, identity(doc)))
        splits.append(
            _own_split(doc, benchmark.split, where)
            if benchmark.split
            else split_of(suite.salt, groups[-1], suite.shares)
        )
    if general := is_general(asked):
        asked = [None if place in left_out else asks(doc, True) for place, doc in enumerate(docs)]
    own = tuple(groups)
    return Documents(docs, names, own, own, tuple(splits), left_out, tuple(asked), general)


def _own_split(doc: Mapping[str, Any], name: str, where: str) -> str:
    if doc.get(name) not in SPLITS:
        raise ConfigError(
            f"{where}: expected each item's {name!r} to be one of {', '.join(SPLITS)}, found {doc.get(name)!r}"
        )
    return doc[name]


def choose(suite: Suite, benchmark: Benchmark, documents: Documents, split: str, seed: int) -> Items:
    """The items of one split of a benchmark, as many as its limit allows.

    Args:
        suite: its salt decides, in validation and test, what a limit keeps.
        benchmark: says how items are limited.
        documents: of the benchmark.
        split: `optimisation`, `validation` or `test`.
        seed: decides with the salt what a limit keeps of the optimisation split.

    Raises:
        ArtefactError: no item falls into the split.
    """
    inside = [index for index, own in enumerate(documents.splits) if own == split]
    address = f"{suite.salt}|{seed}" if split == "optimisation" else suite.salt
    kept = [
        inside[place]
        for place in subsample(address, [documents.names[index] for index in inside], benchmark.limits.get(split))
    ]
    if not kept:
        raise ArtefactError(
            f"suite {suite.name}: benchmark {benchmark.name}: no item of its {len(documents.docs)} falls into the "
            f"split {split}; "
            "give it more items, a finer `group` or a larger share"
        )
    names, groups = (tuple(column[index] for index in kept) for column in (documents.names, documents.groups))
    return Items(tuple(kept), names, groups, tuple(documents.docs[index] for index in kept))


def identity(doc: Mapping[str, Any]) -> str:
    """Returns the first 16 hex digits of the hash that the harness logs as `doc_hash`."""
    from lm_eval.utils import handle_non_serializable, hash_string

    return hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False))[:16]


def distinct(hashes: Sequence[str]) -> tuple[str, ...]:
    """Returns the identities of documents: a repeated one gets "-2", "-3", ..."""
    seen: Counter[str] = Counter()
    names = []
    for name in hashes:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(names)


def grouping(pattern: str | None, where: str) -> Callable[[Mapping[str, Any], str], str]:
    """Returns the function that gives a document, known by its identity, its cluster: a field, or a template rendered
    where it can run no code.

    It raises ConfigError for a pattern that is neither, ArtefactError for a document with an empty group.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    template = (
        SandboxedEnvironment(undefined=StrictUndefined).from_string(pattern) if pattern and "{{" in pattern else None
    )

    def group_of(doc: Mapping[str, Any], name: str) -> str:
        if pattern is None:
            return name
        if pattern not in doc and template is None:
            raise ConfigError(
                f"{where}: group {pattern!r} is no field of its documents ({', '.join(doc)}) and no template with "
                f"{{{{...}}}}"
            )
        group = template.render(**doc) if pattern not in doc and template else doc[pattern]
        if group is None or group == "":
            raise ArtefactError(f"{where}: item {name} has an empty group ({pattern!r}); every item must belong to one")
        return str(group)

    return group_of
