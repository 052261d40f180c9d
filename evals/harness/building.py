"""From a suite to evaluation sets: tasks loaded once, documents sorted into splits, prompts made and tokenised once."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.engines.engine import Batch, Generation, Loglikelihood
from psomerge.evals.harness.encoding import Encoder
from psomerge.evals.harness.equal import join_equal
from psomerge.evals.harness.evaluation_set import EvaluationSet, digest_of_set
from psomerge.evals.harness.fewshot import draw_outside_splits
from psomerge.evals.harness.foreign import foreign_code, naming, of_item
from psomerge.evals.harness.items import Documents, Items, choose, sort_documents
from psomerge.evals.harness.labels import check_labels
from psomerge.evals.harness.left_out import told_left_out
from psomerge.evals.harness.prepared import Prepared
from psomerge.evals.harness.prompts import Render, make_prompts
from psomerge.evals.harness.questions import compiled_once
from psomerge.evals.harness.tasks import filter_names, load_tasks
from psomerge.evals.harness.templates import today
from psomerge.evals.harness.thinking import check_choices, marks_of
from psomerge.evals.scorers import Scorer, load_scorer
from psomerge.evals.suites.suite import Benchmark, Prompting, Suite

logger = logging.getLogger(__name__)


def build(
    suite: Suite,
    split: str,
    tokenizer_folder: Path,
    *,
    seed: int = 0,
    cache: Path | None = None,
    allow_task_code: bool = False,
    date: str | None = None,
) -> EvaluationSet:
    """Returns the evaluation set of one split; see `build_all`."""
    settings = {"seed": seed, "cache": cache, "allow_task_code": allow_task_code, "date": date}
    return build_all(suite, (split,), tokenizer_folder, **settings)[split]


def build_all(
    suite: Suite,
    splits: Sequence[str],
    tokenizer_folder: Path,
    *,
    seed: int = 0,
    cache: Path | None = None,
    allow_task_code: bool = False,
    date: str | None = None,
) -> dict[str, EvaluationSet]:
    """Returns the evaluation set of each split.

    Args:
        suite: what to ask.
        splits: of `optimisation`, `validation`, `test`.
        tokenizer_folder: of the models that will answer; its `config.json` says how long a sequence may be.
        seed: of the run: it draws the items of the optimisation split where that is limited, and has no say in the
            others.
        cache: folder for what `datasets` keeps.
        allow_task_code: see `evals.harness.tasks`.
        date: YYYY-MM-DD, for chat templates that write one, where the suite says none; None: today's.

    Raises:
        ArtefactError: a benchmark without items in a split or with too few examples, or data, prompts or a tokenizer
            that cannot be used.
        ConfigError, ServiceError: as `load_tasks`; a chat template is asked for and the tokenizer has none; an item is
            to be left out that there is not.
    """
    encoder = Encoder(tokenizer_folder)
    tasks = load_tasks(suite, cache, allow_task_code=allow_task_code)
    allowed = allow_task_code or suite.shipped
    sorted_ = [sorted_documents(suite, one, task) for one, task in zip(suite.benchmarks, tasks, strict=True)]
    if left_out := told_left_out(suite, dict(zip((one.name for one in suite.benchmarks), sorted_, strict=True))):
        logger.info("suite %s: %s", suite.name, left_out)
    sorted_, equal = join_equal(suite, sorted_)
    if equal.questions:
        logger.warning("suite %s: %s", suite.name, equal)
    draw_outside_splits(suite, tasks, sorted_)
    scorers = [scorer_of(benchmark, allowed) for benchmark in suite.benchmarks]
    sources = list(zip(tasks, sorted_, scorers, strict=True))
    dated = date or today()
    return {split: replace(_build(suite, split, sources, encoder, seed, dated), equal=str(equal)) for split in splits}


def sorted_documents(suite: Suite, benchmark: Benchmark, task: Any) -> Documents:
    """Returns the documents of a benchmark, sorted into splits. Raises ArtefactError and ConfigError as
    `sort_documents`, or where the task's own code fails."""
    with foreign_code(f"suite {suite.name}: benchmark {benchmark.name}", "sort its documents"), compiled_once():
        return sort_documents(suite, benchmark, task)


def scorer_of(benchmark: Benchmark, allowed: bool) -> Scorer | None:
    """Returns what turns a benchmark's outputs into numbers, where that is not its task. Raises ConfigError as
    `load_scorer`."""
    return load_scorer(benchmark.scorer, benchmark.scorer_options, allowed=allowed) if benchmark.scorer else None


def _build(
    suite: Suite,
    split: str,
    sources: Sequence[tuple[Any, Documents, Scorer | None]],
    encoder: Encoder,
    seed: int,
    date: str,
) -> EvaluationSet:
    loglikelihood: dict[Loglikelihood, int] = {}
    generation: dict[Generation, int] = {}
    prepared = []
    for benchmark, (shared, documents, scorer) in zip(suite.benchmarks, sources, strict=True):
        items = choose(suite, benchmark, documents, split, seed)
        where = f"suite {suite.name}: benchmark {benchmark.name}"
        render = _template(encoder, benchmark.prompting, date)
        with foreign_code(where, "make its prompts"):
            one = prepare(benchmark, shared, items, scorer, render=render, shots=shared.config.num_fewshot or 0)
        with naming(where):
            prepared.append(replace(one, asked=_encode(one, encoder, loglikelihood, generation)))
    batch = Batch(tuple(loglikelihood), tuple(generation))
    dated = {one.prompting.date or date for one in suite.benchmarks if one.prompting.chat_template}
    dates = tuple(sorted(dated)) if encoder.writes_a_date else ()
    return EvaluationSet(split, batch, digest_of_set(suite, split, batch, prepared), tuple(prepared), dates=dates)


def _template(encoder: Encoder, prompting: Prompting, date: str) -> Render | None:
    """The chat template as a benchmark asks it; None where its prompts are no turns."""
    if not prompting.chat_template:
        return None
    told = {"date": prompting.date or date, "arguments": prompting.chat_template_args}
    return partial(encoder.chat_template, **told)


def prepare(
    benchmark: Benchmark, shared: Any, items: Items, scorer: Scorer | None, *, render: Render | None, shots: int
) -> Prepared:
    """Returns a benchmark with the prompts of some items, of which each can be answered right; `asked` is left empty.

    Args:
        benchmark: of the suite.
        shared: its task, which keeps no prompts: they are each split's own.
        items: of one split.
        scorer: in place of the task's metric.
        render: the chat template, where prompts are turns.
        shots: solved examples before each.

    Raises:
        ArtefactError: as `make_prompts` and `check_labels`.
        ConfigError: as `check_choices`.
    """
    task = copy.copy(shared)
    task._instances = make_prompts(task, items, benchmark.prompting, render=render, shots=shots)
    one = Prepared(benchmark, task, items, benchmark.filter or filter_names(task)[0], (), scorer)
    check_labels(one)
    if marks := marks_of(benchmark.prompting):
        check_choices(task.instances, marks)
    return one


def _encode(
    one: Prepared, encoder: Encoder, loglikelihood: dict[Loglikelihood, int], generation: dict[Generation, int]
) -> tuple[int, ...]:
    """Adds the requests that are new to the two ordered sets; returns for each instance the place of its request."""
    instances, items = one.task.instances, one.items
    written = partial(encoder.generation, marks=marks_of(one.benchmark.prompting))
    asked: list[int] = [0] * len(instances)
    for kind, encode, known in (
        ("loglikelihood", encoder.loglikelihood, loglikelihood),
        ("generate_until", written, generation),
    ):
        chosen = [index for index, instance in enumerate(instances) if instance.request_type == kind]
        try:
            requests = encode([instances[index] for index in chosen])
        except ArtefactError:
            for index in chosen:  # one at a time, to name the item
                place = instances[index].doc_id
                with of_item(items.names[place], items.docs[place], "cut it into tokens"):
                    encode([instances[index]])
            raise
        for index, request in zip(chosen, requests, strict=True):
            asked[index] = known.setdefault(request, len(known))  # pyright: ignore[reportArgumentType]
    if other := {instance.request_type for instance in instances} - {"loglikelihood", "generate_until"}:
        raise ConfigError(
            f"task {instances[0].task_name} asks for {', '.join(sorted(other))}; only log-likelihood and greedy "
            "generation are answered"
        )
    return tuple(asked)
