"""Solved examples before an item: they come from documents that belong to no split, in no benchmark of the suite."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.harness.items import Documents, grouping, identity
from psomerge.evals.suites.suite import Suite


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
    if not any(task.config.num_fewshot for task in tasks):
        return
    rows = [row for one in documents for row in zip(one.names, one.groups, one.splits, strict=True)]
    held = {name for name, _, split in rows if split} | {group for _, group, split in rows if split}
    for benchmark, task in zip(suite.benchmarks, tasks, strict=True):
        wanted, where = task.config.num_fewshot, f"suite {suite.name}: benchmark {benchmark.name}"
        if not wanted:
            continue
        if getattr(task, "sampler", None) is None:
            raise ConfigError(f"{where}: task {benchmark.task} has no examples to draw from; set num_fewshot: 0")
        group_of = grouping(benchmark.group, where)
        pool = [doc for doc in task.sampler.df if not held & _names(group_of, doc)]
        # The harness draws one more where examples and items are of one split of the data, in case it draws the item
        # itself.
        needed = wanted + (task.fewshot_cfg.split == task.config.test_split)
        if len(pool) < needed:
            raise ArtefactError(
                f"{where}: expected at least {needed} examples that belong to no split, found {len(pool)} of "
                f"{len(task.sampler.df)}; "
                "leave a remainder in `shares`, or set a smaller num_fewshot"
            )
        task.sampler.replace_df(pool)


def _names(group_of: Callable[[Mapping[str, Any], str], str], doc: Mapping[str, Any]) -> set[str]:
    """Identity and group of an example; one from elsewhere may lack the fields of a group."""
    name = identity(doc)
    try:
        return {name, group_of(doc, name)}
    except Exception:  # whatever a template over fields that are not there may raise
        return {name}
