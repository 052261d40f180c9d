"""All that is wrong with a suite, before anything is fetched: from its tasks' files, and from their data as far as
these are on this machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from psomerge.errors import PsomergeError, ServiceError
from psomerge.evals.harness.building import prepare, scorer_of, sorted_documents
from psomerge.evals.harness.equal import join_equal
from psomerge.evals.harness.fewshot import draw_outside_splits
from psomerge.evals.harness.foreign import foreign_code
from psomerge.evals.harness.items import Items, choose
from psomerge.evals.harness.left_out import told_left_out
from psomerge.evals.harness.tasks import try_tasks
from psomerge.evals.suites.suite import Suite


@dataclass(frozen=True)
class Inspection:
    """Of a suite."""

    problems: tuple[PsomergeError, ...]
    """That keep it from being built, whatever the models are."""
    unseen: tuple[str, ...] = ()
    """Names of benchmarks whose data are not here."""
    items: Mapping[str, int] = field(default_factory=dict)
    """By split; of the benchmarks whose data are here."""
    left_out: str = ""
    """What of these the suite leaves out; empty where that is nothing."""
    equal: str = ""
    """What asks the same under several names and is kept together, of these; empty where nothing does."""


def inspect(
    suite: Suite, splits: Sequence[str], *, seed: int = 0, cache: Path | None = None, allow_task_code: bool = False
) -> Inspection:
    """Returns what is known of a suite without asking anybody elsewhere; arguments as of
    `evals.harness.building.build_all`."""
    tasks, found = try_tasks(suite, cache, allow_task_code=allow_task_code, offline=True)
    problems = [error for error in found if not isinstance(error, ServiceError)]
    items = dict.fromkeys(splits, 0)
    seen, documents = [], []
    for benchmark, task in zip(suite.benchmarks, tasks, strict=True):
        try:
            scorer = scorer_of(benchmark, allow_task_code or suite.shipped)
            if task is not None:
                documents.append(sorted_documents(suite, benchmark, task))
                seen.append((benchmark, task, scorer))
        except PsomergeError as error:
            problems.append(error)
    left_out = ""
    try:
        left_out = told_left_out(
            suite, {benchmark.name: one for (benchmark, *_), one in zip(seen, documents, strict=True)}
        )
    except PsomergeError as error:
        problems.append(error)
    documents, equal = join_equal(replace(suite, benchmarks=tuple(benchmark for benchmark, *_ in seen)), documents)
    for (benchmark, task, scorer), one in zip(seen, documents, strict=True):
        try:
            chosen = [choose(suite, benchmark, one, split, seed) for split in splits]
            for split, part in zip(splits, chosen, strict=True):
                items[split] += len(part.indices)
            with foreign_code(f"suite {suite.name}: benchmark {benchmark.name}", "make its prompts"):
                # Without examples and turns: whether they can be had is known with the tokenizer.
                prepare(benchmark, task, _together(chosen), scorer, render=None, shots=0)
        except PsomergeError as error:
            problems.append(error)
    if len(documents) == len(tasks) and not problems:
        try:
            draw_outside_splits(suite, tasks, documents)
        except PsomergeError as error:
            problems.append(error)
    unseen = [one.name for one, task in zip(suite.benchmarks, tasks, strict=True) if task is None]
    return Inspection(tuple(problems), tuple(unseen) if not problems else (), items, left_out, str(equal))


def _together(parts: Sequence[Items]) -> Items:
    """The items of several splits, so that what is wrong with them is told at once."""
    rows = sorted(
        (row for one in parts for row in zip(one.indices, one.names, one.groups, one.docs, strict=True)),
        key=lambda row: row[0],
    )
    indices, names, groups, docs = zip(*rows, strict=True)
    return Items(indices, names, groups, docs)
