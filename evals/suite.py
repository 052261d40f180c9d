"""Suites: which benchmarks, languages, metrics and weights make up the fitness, and how their items are split.

A suite is data. Where a benchmark's items come from and how they are scored is `evals.harness`'s; this module opens no data set.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evals.fitness import Aggregate
from evals.splits import SPLITS
from evals.strict_yaml import read, validate
from psomerge.errors import ConfigError, nearest

UNDETERMINED = "und"
"""Language tag (BCP 47) of a benchmark that names no language."""


@dataclass(frozen=True)
class Benchmark:
    """One task in one language, judged by one metric."""

    name: str
    """Unique in the suite."""
    task: str
    """Name in lm-evaluation-harness."""
    language: str
    metric: str
    weight: float = 1.0
    filter: str | None = None
    """Which of the task's filters; None where it has one."""
    group: str | None = None
    """Field of a document, or Jinja template over it, that names its cluster; None: the document itself."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most items by split; a split that is not named has no limit."""
    template: bool = False
    """Whether the task is built once a language, told by metadata, or names its language itself."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """lm-eval task configuration laid over the task's own."""


@dataclass(frozen=True)
class Suite:
    """Benchmarks, one for each task and language, and how their items are split."""

    name: str
    salt: str
    shares: Mapping[str, float]
    benchmarks: tuple[Benchmark, ...]
    include: tuple[str, ...] = ()
    """Folders with lm-eval task YAML, as the suite names them."""
    folder: Path = Path()
    """Of the suite's file: `include` is looked up here first."""
    aggregate: Aggregate = field(default_factory=Aggregate)
    shipped: bool = False
    """Whether it came by name from the shipped ones; a file of the user's is not trusted to run code."""


Text = Annotated[str, Field(strict=True, min_length=1)]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
Limit = Annotated[int, Field(ge=1, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Shares(_Strict):
    optimisation: Share
    validation: Share
    test: Share

    @model_validator(mode="after")
    def _at_most_one(self) -> "_Shares":
        if (total := math.fsum((self.optimisation, self.validation, self.test))) > 1:
            raise ValueError(f"expected shares with a sum of at most 1, found {total:g}")
        return self


class _Limits(_Strict):
    optimisation: Limit | None = None
    validation: Limit | None = None
    test: Limit | None = None


class _Entry(_Strict):
    task: Text
    metric: Text
    name: Text | None = None
    language: Text | None = None
    languages: tuple[Text, ...] | None = Field(default=None, min_length=1)
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0
    filter: Text | None = None
    group: Text | None = None
    limits: _Limits = _Limits()
    config: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_way_to_name_languages(self) -> "_Entry":
        if self.language and self.languages:
            raise ValueError("expected `language` (a label) or `languages` (one benchmark each), found both")
        if not self.languages and "{language}" in f"{self.task}{self.name}{self.config}":
            raise ValueError("`{language}` needs a list `languages` to be filled from")
        return self


class _Aggregate(_Strict):
    over: Literal["benchmarks", "languages"] = "benchmarks"
    worst: Limit | None = None


class _File(_Strict):
    name: Name
    salt: Text
    shares: _Shares
    benchmarks: tuple[_Entry, ...] = Field(min_length=1)
    include: tuple[Text, ...] = ()
    group: Text | None = None
    limits: _Limits = _Limits()
    aggregate: _Aggregate = _Aggregate()


def load_suite(name_or_path: str | Path, folder: Path | None = None) -> Suite:
    """Returns the suite in a file, one benchmark for each task and language.

    Args:
        name_or_path: a path (it ends in .yaml or .yml), or the name of a shipped suite.
        folder: where the shipped suites lie, NAME.yaml each.

    Raises:
        ConfigError: no such file or name, or a file that is not a suite; names the key and, for a misspelt one, the nearest.
    """
    path = Path(name_or_path)
    if is_name := path.suffix not in (".yaml", ".yml"):
        shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))} if folder else {}
        if str(name_or_path) not in shipped:
            raise ConfigError(f"unknown suite {str(name_or_path)!r}{nearest(str(name_or_path), list(shipped))}; give a shipped name or a path to a .yaml file")
        path = shipped[str(name_or_path)]
    parsed = validate(_File, read(path), str(path))
    benchmarks = tuple(benchmark for entry in parsed.benchmarks for benchmark in _expand(entry, parsed, str(path)))
    names = [benchmark.name for benchmark in benchmarks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: several benchmarks are called {', '.join(twice)}; give each entry its own `name`")
    aggregate = Aggregate(parsed.aggregate.over, parsed.aggregate.worst)
    counted = len(names) if aggregate.over == "benchmarks" else len({benchmark.language for benchmark in benchmarks})
    if aggregate.worst is not None and aggregate.worst > counted:
        raise ConfigError(f"{path}: aggregate.worst: expected at most {counted}, the number of {aggregate.over}, found {aggregate.worst}")
    shares = {split: getattr(parsed.shares, split) for split in SPLITS}
    return Suite(parsed.name, parsed.salt, shares, benchmarks, parsed.include, path.resolve().parent, aggregate, shipped=is_name)


def _expand(entry: _Entry, suite: _File, where: str) -> list[Benchmark]:
    """Benchmarks of one entry, in the order of its languages."""
    template = entry.languages is not None and "{language}" not in entry.task
    limits = {split: limit for split in SPLITS if (limit := getattr(entry.limits, split) or getattr(suite.limits, split))}
    pattern = entry.name or (entry.task + "_{language}" if template else entry.task)
    benchmarks = []
    for language in entry.languages or (entry.language or UNDETERMINED,):
        name = _fill(pattern, language)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ConfigError(f"{where}: benchmark name {name!r}: expected letters, digits, '_', '.', '-' only; give the entry a `name`")
        benchmarks.append(
            Benchmark(
                name=name,
                task=_fill(entry.task, language),
                language=language,
                metric=entry.metric,
                weight=entry.weight,
                filter=entry.filter,
                group=entry.group or suite.group,
                limits=limits,
                template=template,
                config=_fill(entry.config, language),
            )
        )
    return benchmarks


def _fill(value: Any, language: str) -> Any:
    """The value with `{language}` replaced in every text of it; Jinja's own `{{language}}` is left alone."""
    if isinstance(value, str):
        return re.sub(r"(?<!\{)\{language\}(?!\})", lambda _: language, value)
    if isinstance(value, Mapping):
        return {key: _fill(part, language) for key, part in value.items()}
    return [_fill(part, language) for part in value] if isinstance(value, list) else value
