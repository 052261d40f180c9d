"""A suite's benchmarks as lm-evaluation-harness tasks, loaded by the harness's own TaskManager.

A task folder is code: its YAML names Python functions, and Jinja templates that reach as far. Folders of this package
and of the harness are trusted, and so are shipped suites; a user's folders, and templates in a user's suite, need
leave.
"""

import contextlib
import functools
import importlib.util
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from psomerge.errors import ConfigError, PsomergeError, ServiceError, nearest, together
from psomerge.evals.harness import answers
from psomerge.evals.harness.corpus import corpus_metric, register
from psomerge.evals.harness.foreign import foreign_code, one_line
from psomerge.evals.harness.overlay import check_taken, overlay
from psomerge.evals.metrics import corpus
from psomerge.evals.suites.paths import asks_the_hub, with_data_files
from psomerge.evals.suites.suite import Benchmark, Suite

_TASK = re.compile(r"""^["']?task["']? *: *["']?([^\s"'#\[\]{},|>]+)""", re.MULTILINE)
_GROUP = re.compile(r"""^["']?(?:group|tag)["']? *: *((?:\n? *- *[^\n]+)+|[^\n]+)""", re.MULTILINE)
_NAME = re.compile(r"""[^\s"',#\[\]-][^\s"',#\[\]]*""")
"""Of a YAML file's top level, as the harness's files write it."""
OWN_TASKS = Path(__file__).resolve().parents[1] / "benchmarks"


def load_tasks(suite: Suite, cache: Path | None, *, allow_task_code: bool) -> list[Any]:
    """Returns one lm-eval Task for each benchmark of the suite, in the suite's order; arguments as of `try_tasks`.

    Raises:
        ConfigError: an unknown folder or task, a folder of code without leave, a metric, filter or kind of request that
            cannot be used; all that is wrong with all benchmarks, a line each.
        ArtefactError: a task whose data cannot be read or whose prompts cannot be made.
        ServiceError: data that must be downloaded, and cannot.
    """
    tasks, problems = try_tasks(suite, cache, allow_task_code=allow_task_code)
    if problems:
        raise together(sorted(problems, key=lambda error: isinstance(error, ServiceError)))
    return tasks


def try_tasks(
    suite: Suite, cache: Path | None, *, allow_task_code: bool, offline: bool = False
) -> tuple[list[Any], list[PsomergeError]]:
    """Returns one lm-eval Task for each benchmark of the suite, in the suite's order, None for one that cannot be
    loaded, and all that is wrong: ServiceErrors where it is only that the data must be downloaded, and cannot.

    Args:
        suite: names the tasks and the folders to find them in.
        cache: folder for what `datasets` keeps of files and downloads; None: its own default.
        allow_task_code: whether a folder next to the suite may run its Python and templates here.
        offline: whether nothing may be asked of anybody elsewhere.
    """
    allowed = allow_task_code or suite.shipped
    register()
    answers.register()
    manager, problems = _manager(suite, allowed)
    known = set(manager.all_subtasks) if manager else set[str]()  # the harness sorts them anew each time
    tasks: list[Any] = []
    with _alone() if offline else _asking_first():
        for benchmark in suite.benchmarks:
            where = f"suite {suite.name}: benchmark {benchmark.name}"
            tasks.append(None)
            try:
                if benchmark.task in known:
                    located = with_data_files(benchmark, manager.task_index[benchmark.task].cfg or {}, suite.folder)
                    tasks[-1] = _load(manager, located, cache, where, allowed, offline)
            except PsomergeError as error:
                problems.append(error)
    return tasks, problems


@contextlib.contextmanager
def _asking_first() -> Iterator[None]:
    """Keeps `datasets`, in the block, from trying a hub that does not answer: its client tries each file for half a
    minute, and each data set has several. What is here is taken."""
    import datasets

    load, silent = datasets.load_dataset, functools.cache(_hub_is_silent)

    def loaded(path: Any, *arguments: Any, **keywords: Any) -> Any:
        if not (asks_the_hub(str(path)) and (why := silent())):
            return load(path, *arguments, **keywords)
        try:
            with _alone():
                return load(path, *arguments, **keywords)
        except ConnectionError as error:
            raise ConnectionError(f"its data are not here, and {why}") from error

    with patch.object(datasets, "load_dataset", loaded):
        yield


def _hub_is_silent() -> str:
    """Why the hub cannot be asked; empty where it answers, whatever it says, and where it is not to be asked."""
    from datasets import config

    if config.HF_HUB_OFFLINE:
        return ""
    try:
        with urllib.request.urlopen(urllib.request.Request(config.HF_ENDPOINT, method="HEAD"), timeout=10):
            return ""
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"{config.HF_ENDPOINT} cannot be reached: {one_line(error)}"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keeps `datasets` and the hub's client, which it brings along, from asking anybody in the block."""
    from datasets import config

    constants = sys.modules["huggingface_hub.constants"]
    with patch.object(config, "HF_HUB_OFFLINE", True), patch.object(constants, "HF_HUB_OFFLINE", True):
        yield


def _load(manager: Any, benchmark: Benchmark, cache: Path | None, where: str, allowed: bool, offline: bool) -> Any:
    """The task of a benchmark, once it is clear that it can be scored; of one whose data cannot be had that is known
    all the same."""
    if not allowed and re.search(r"\{[{%#]", str(benchmark.config)):
        raise ConfigError(f"{where}: a template in `config` can run code; set allow_task_code if you trust it")
    begun: list[Any] = []
    try:
        with foreign_code(where, f"load task {benchmark.task}"), _noting_what_waits_for_data(begun):
            overrides = overlay(manager, benchmark, cache)
            # A group of one is the harness's way to lay values over a registered task.
            loaded = manager.load([{"group": benchmark.name, "task": [{"task": benchmark.task, **overrides}]}])
            check_taken(loaded["tasks"][benchmark.task], overrides)
    except ServiceError:
        for task in begun:
            _check(task, benchmark, where, offline)
        raise
    task = loaded["tasks"][benchmark.task]
    answers.in_one_form(task)
    _check(task, benchmark, where, offline)
    return task


@contextlib.contextmanager
def _noting_what_waits_for_data(begun: list[Any]) -> Iterator[None]:
    """Adds to the list each task whose data cannot be had: its metrics are set by then, and the harness has no other
    way to make a task without its data."""
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download

    def noting(task: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return download(task, *arguments, **keywords)
        except ConnectionError:
            begun.append(task)
            raise

    with patch.object(ConfigurableTask, "download", noting):
        yield


def _manager(suite: Suite, allowed: bool) -> tuple[Any, list[PsomergeError]]:
    """An index of the suite's folders and of those of the harness's tasks that it names (an index of all takes 13 to 21
    s), and what of both there is not; None where a folder that is missing or not trusted may hold the tasks."""
    from lm_eval.tasks import TaskManager

    folders: list[str | Path] = []
    problems: list[PsomergeError] = []
    for name in suite.include:
        try:
            folders.append(_find(name, suite, allowed))
        except ConfigError as error:
            problems.append(error)
    if problems:
        return None, problems
    with foreign_code(f"suite {suite.name}", "read its task folders"):
        manager = TaskManager(include_path=folders, include_defaults=False)
        wanted = {benchmark.task for benchmark in suite.benchmarks}
        lacking = sorted(wanted - set(manager.all_subtasks))
        theirs, groups = _named_in(_their_tasks()) if lacking else ({}, set())
        if lacking:
            # First: of two tasks of one name the later one counts, and that is the suite's own.
            folders = [*sorted({theirs[name].parent for name in lacking if name in theirs}), *folders]
            manager = TaskManager(include_path=folders, include_defaults=False)
            lacking = sorted(wanted - set(manager.all_subtasks))
    for name in lacking:
        is_group = name in manager.all_tasks or name in groups
        what = (
            "is a group of tasks: name its tasks one by one"
            if is_group
            else f"is no task{nearest(name, sorted({*manager.all_subtasks, *theirs}))}"
        )
        users = ", ".join(one.name for one in suite.benchmarks if one.task == name)
        problems.append(ConfigError(f"suite {suite.name}: {name!r} {what} (benchmark {users})"))
    return manager, problems


@functools.cache
def _named_in(root: Path) -> tuple[dict[str, Path], set[str]]:
    """The files that define the tasks below a folder, by name, and the names of most groups and tags there: 1 to 4 s
    for the harness's 14,000 files, whose parsing takes ten times as long."""
    tasks: dict[str, Path] = {}
    groups: set[str] = set()
    for path in sorted(root.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for match in _TASK.finditer(text):
            tasks.setdefault(match[1], path)
        for match in _GROUP.finditer(text):
            groups.update(_NAME.findall(match[1]))
    return tasks, groups


def _their_tasks() -> Path:
    """The folder of the harness's own tasks."""
    package = importlib.util.find_spec("lm_eval")
    return Path(next(iter(package.submodule_search_locations or []))) / "tasks" if package else OWN_TASKS


def _find(name: str, suite: Suite, allowed: bool) -> Path:
    """The folder of an `include`: next to the suite, this package's, or the harness's own."""
    theirs = _their_tasks()
    for place in (suite.folder, OWN_TASKS, theirs):
        folder = (place / name).resolve()
        if folder.is_dir():
            if not allowed and not any(folder.is_relative_to(trusted) for trusted in (OWN_TASKS, theirs.resolve())):
                raise ConfigError(
                    f"suite {suite.name}: the task folder {folder} can run code; set allow_task_code if you trust it"
                )
            return folder
    raise ConfigError(
        f"suite {suite.name}: include {name!r} is no folder beside the suite ({suite.folder}), in {OWN_TASKS} or in "
        "lm-eval's tasks"
    )


def _check(task: Any, benchmark: Benchmark, where: str, offline: bool) -> None:
    """Refuses what cannot be scored in [0, 1]."""
    kind = str(task.OUTPUT_TYPE or task.config.output_type)
    if kind == "loglikelihood_rolling":
        raise ConfigError(
            f"{where}: task {benchmark.task} asks for perplexity (loglikelihood_rolling), which is no score in [0, "
            "1]; choose another task"
        )
    if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
        raise ConfigError(
            f"{where}: task {benchmark.task} runs what the model writes, or shows it pictures or sound; choose a "
            "task of text alone"
        )
    if not benchmark.scorer:
        _check_metric(task, benchmark, where, offline)
    elif kind != "generate_until":
        raise ConfigError(
            f"{where}: a scorer judges what a model writes, and task {benchmark.task} asks for {kind}; give it a "
            "`metric`"
        )
    filters = filter_names(task)
    if benchmark.filter is None and len(filters) > 1:
        raise ConfigError(
            f"{where}: task {benchmark.task} has the filters {', '.join(filters)}; say which with `filter`"
        )
    for name in (benchmark.filter, benchmark.beside and benchmark.beside.filter):
        if name is not None and name not in filters:
            raise ConfigError(f"{where}: task {benchmark.task} has no filter {name!r}{nearest(name, filters)}")
    if benchmark.beside and benchmark.beside.metric not in (known := task.aggregation()):
        metric = benchmark.beside.metric
        raise ConfigError(f"{where}: beside: task {benchmark.task} has no metric {metric!r}{nearest(metric, known)}")


def _check_metric(task: Any, benchmark: Benchmark, where: str, offline: bool) -> None:
    """Refuses a metric that is neither a mean over items nor one of the corpus metrics."""
    from lm_eval.api.metrics import mean

    aggregations = task.aggregation()
    if task.higher_is_better().get(benchmark.metric) is False:
        raise ConfigError(
            f"{where}: of metric {benchmark.metric!r} lower is better, and a search raises its fitness; choose "
            "another metric"
        )
    if benchmark.metric not in aggregations:
        raise ConfigError(
            f"{where}: task {benchmark.task} has no metric "
            f"{benchmark.metric!r}{nearest(benchmark.metric, list(aggregations))}"
        )
    if name := corpus_metric(aggregations[benchmark.metric]):
        if getattr(task, "multiple_target", False) and not callable(task.config.process_results):
            raise ConfigError(
                f"{where}: the harness makes 0 or 1 of a {name} with several references an item; give the task a "
                "process_results"
            )
        if not offline:
            corpus.signature(name)  # a tokeniser that cannot be had is known here, before an engine starts
    elif aggregations[benchmark.metric] is not mean:
        how = getattr(aggregations[benchmark.metric], "__name__", str(aggregations[benchmark.metric]))
        raise ConfigError(
            f"{where}: metric {benchmark.metric!r} is aggregated by {how!r}, expected a mean over items, such as acc "
            "and exact_match have, "
            f"or one of {', '.join(corpus.NAMES)}"
        )


def filter_names(task: Any) -> list[str]:
    """Names of a task's answer filters, in its order; the harness's own default is called "none"."""
    listed: Sequence[Any] | None = task.config.filter_list
    return [str(entry["name"]) for entry in listed] if listed else ["none"]
