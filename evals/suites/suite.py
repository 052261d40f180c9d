"""Suites as records: which benchmarks, languages, metrics and weights make up the fitness, and how their items are
split.

A suite is data, read by `evals.suites.file`, where pydantic checks what the records' types say. Where a benchmark's
items come from and how they are scored is `evals.harness`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

Text = Annotated[str, Field(strict=True, min_length=1)]
Count = Annotated[int, Field(ge=1, strict=True)]
Points = Annotated[float, Field(ge=0, le=1, strict=True)]


TEMPLATE_NAMES = frozenset(
    {"add_generation_prompt", "continue_final_message", "documents", "messages", "strftime_now", "tools"}
)
"""What a chat template is told by whoever renders it."""


@dataclass(frozen=True)
class Aggregate:
    """How scores become one number: a mean over benchmarks or over languages, of all of them or of the worst."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    over: Literal["benchmarks", "languages"] = "benchmarks"
    """What counts as one: a benchmark with its weight, or a language with the weighted mean over its benchmarks, all
    languages alike."""
    worst: Count | None = None
    """Only so many of them count, the lowest; 1 is the worst benchmark or language alone. None: all."""
    normalised: bool = False
    """Whether each benchmark counts from the base (0) to the best expert (1) instead of from 0 to 1."""


@dataclass(frozen=True)
class Floor:
    """What a benchmark's score must not fall below, whatever the mean says. Raises ValueError if it says nothing."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    at_least: Points | None = None
    """A score in [0, 1]."""
    below_base: Points | None = None
    """How far below the base's score on the same items it may be, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.at_least is None and self.below_base is None:
            raise ValueError(
                "expected `at_least` (a score) or `below_base` (how far below the base's score), both in [0, 1]"
            )


@dataclass(frozen=True)
class Figure:
    """Another figure of the same answers, told beside a benchmark's score and counted nowhere: such as the one that
    others publish."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    metric: Text
    """Of the task, a mean over items; `exact_match` is the harness's own, letter by letter."""
    filter: Text | None = None
    """None: the benchmark's."""

    def __str__(self) -> str:
        return f"{self.metric} of {self.filter}" if self.filter else self.metric


@dataclass(frozen=True)
class Prompting:
    """How a task's documents become prompts: the harness's own switches. Raises ValueError for turns without a
    template."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_fewshot: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Solved examples before each item, drawn from items that belong to no split; None: as many as the task says."""
    chat_template: bool = False
    """Whether prompts are turns of a conversation, by the tokenizer's template."""
    fewshot_as_multiturn: bool = False
    """Whether each example is a turn of its own, or all are one text."""
    system_instruction: Text | None = None
    date: Text | None = None
    """That a chat template writes as today's, YYYY-MM-DD; None: of the day on which the suite is first asked."""
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    """What a chat template is told beside the turns, such as `enable_thinking: false`."""
    think_end_token: Text | None = None
    """What ends a reasoning model's thought, such as `</think>`: what follows is its answer, the task's stop strings
    are looked for there alone, and a thought without an end is no answer."""
    think_begin_token: Text | None = None
    """What begins a thought; None: as the end tells it (`<think>` of `</think>`), where it does."""

    def __post_init__(self) -> None:
        if self.fewshot_as_multiturn and not self.chat_template:
            raise ValueError("`fewshot_as_multiturn` needs `chat_template: true`")
        if self.chat_template_args and not self.chat_template:
            raise ValueError("`chat_template_args` needs `chat_template: true`")
        if self.think_begin_token and not self.think_end_token:
            raise ValueError("`think_begin_token` needs `think_end_token`")
        if taken := sorted(TEMPLATE_NAMES & set(self.chat_template_args)):
            raise ValueError(f"`chat_template_args` cannot set {', '.join(taken)}: a template is told it already")
        if self.date is not None and not _is_date(self.date):
            raise ValueError(f"expected `date` as YYYY-MM-DD, found {self.date!r}")


@dataclass(frozen=True)
class Benchmark:
    """One task in one language, judged by one metric."""

    name: str
    """Unique in the suite."""
    task: str
    """Name in lm-evaluation-harness."""
    language: str
    metric: str
    """Of the task; with a scorer, the name of what it gives."""
    weight: float = 1.0
    filter: str | None = None
    """Which of the task's filters; None where it has one."""
    group: str | None = None
    """Field of a document, or Jinja template over it, that names its cluster; None: the document itself."""
    split: str | None = None
    """Field of a document that names its split, where the data has splits of its own; None: the hash of its cluster
    decides."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most items by split; a split that is not named has no limit."""
    template: bool = False
    """Whether the task is built once a language, told by metadata, or names its language itself."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """lm-eval task configuration laid over the task's own."""
    revision: str | None = None
    """Of the data set on the hub: 40 hex digits; None: the task's own."""
    prompt_language: str | None = None
    """That the instruction is written in; None: what the task says."""
    scorer: str | None = None
    """`package.module:name` of what turns items and outputs into numbers, in place of the task's own metric; see
    `evals.scorers`."""
    scorer_options: Mapping[str, Any] = field(default_factory=dict)
    floor: Floor | None = None
    beside: Figure | None = None
    leave_out: tuple[str, ...] = ()
    """Names of items, as messages tell them, that belong to no split."""
    prompting: Prompting = Prompting()


@dataclass(frozen=True)
class Suite:
    """Benchmarks, one for each task and language, and how their items are split."""

    name: str
    salt: str
    shares: Mapping[str, float]
    """Of each split, where hashes decide; empty if they decide nowhere."""
    benchmarks: tuple[Benchmark, ...]
    include: tuple[str, ...] = ()
    """Folders with lm-eval task YAML, as the suite names them."""
    folder: Path = Path()
    """Of the suite's file: `include` is looked up here first."""
    aggregate: Aggregate = Aggregate()
    shipped: bool = False
    """Whether it came by name from the shipped ones; a file of the user's is not trusted to run code."""


def _is_date(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d") == text
    except ValueError:
        return False
