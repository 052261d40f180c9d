"""Which documents of a task belong to a split, and what they are called: stable identities, groups, subsamples."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.splits import split_of, subsample
from evals.suite import Benchmark, Suite
from psomerge.errors import ArtefactError, ConfigError


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
    """All documents of a task, in its order, and the split that each belongs to; all four of one length."""

    docs: tuple[dict[str, Any], ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str | None, ...]


def sort_documents(suite: Suite, benchmark: Benchmark, task: Any) -> Documents:
    """The documents of a benchmark with their names, groups and splits.

    Args:
        suite: its salt and shares decide the splits.
        benchmark: says how items are grouped.
        task: the lm-eval task.

    Raises:
        ArtefactError: an item belongs to no group.
        ConfigError: the group is neither a field of the documents nor a template.
    """
    where = f"suite {suite.name}: benchmark {benchmark.name}"
    docs = tuple(task.eval_docs)
    names = identities(docs)
    groups = tuple(group_of(benchmark.group, doc, name, where) for doc, name in zip(docs, names, strict=True))
    return Documents(docs, names, groups, tuple(split_of(suite.salt, group, suite.shares) for group in groups))


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
    kept = [inside[place] for place in subsample(address, [documents.names[index] for index in inside], benchmark.limits.get(split))]
    if not kept:
        raise ArtefactError(
            f"suite {suite.name}: benchmark {benchmark.name}: no item of its {len(documents.docs)} falls into the split {split}; "
            "give it more items, a finer `group` or a larger share"
        )
    return Items(tuple(kept), *(tuple(column[i] for i in kept) for column in (documents.names, documents.groups, documents.docs)))  # pyright: ignore[reportArgumentType]


def identities(docs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """16 hex digits for each document, of the hash that the harness logs as `doc_hash`; a repeated document gets "-2", "-3", ..."""
    from lm_eval.utils import handle_non_serializable, hash_string

    hashes = [hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False))[:16] for doc in docs]
    seen: Counter[str] = Counter()
    names = []
    for name in hashes:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return tuple(names)


def group_of(pattern: str | None, doc: Mapping[str, Any], item: str, where: str) -> str:
    """The cluster of a document: a field, or a template rendered where it can run no code: a suite is data."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    if pattern is None:
        return item.partition("-")[0]
    if pattern not in doc and "{{" not in pattern:
        raise ConfigError(f"{where}: group {pattern!r} is no field of its documents ({', '.join(doc)}) and no template with {{{{...}}}}")
    group = doc[pattern] if pattern in doc else SandboxedEnvironment(undefined=StrictUndefined).from_string(pattern).render(**doc)
    if group is None or group == "":
        raise ArtefactError(f"{where}: item {item} has an empty group ({pattern!r}); every item must belong to one")
    return str(group)
