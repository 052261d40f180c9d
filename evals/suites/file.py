"""A suite's file: its YAML keys, and the benchmarks that they stand for, one for each task and language."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from psomerge.errors import ConfigError, nearest
from psomerge.evals.scorers.loading import present_name
from psomerge.evals.suites.splits import SPLITS
from psomerge.evals.suites.strict_yaml import read, validate
from psomerge.evals.suites.suite import Aggregate, Benchmark, Count, Figure, Floor, Prompting, Suite, Text

UNDETERMINED = "und"
"""Language tag (BCP 47) of a benchmark that names no language."""

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Share = Annotated[float, Field(gt=0, lt=1, strict=True)]


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
    optimisation: Count | None = None
    validation: Count | None = None
    test: Count | None = None


class _Entry(_Strict):
    task: Text
    metric: Text | None = None
    name: Text | None = None
    language: Text | None = None
    languages: tuple[Text, ...] | None = Field(default=None, min_length=1)
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)] = 1.0
    filter: Text | None = None
    group: Text | None = None
    split: Text | None = None
    limits: _Limits = _Limits()
    config: dict[str, Any] = {}
    revision: Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{40}$")] | None = None
    prompt_language: Text | None = None
    prompting: Prompting | None = None
    scorer: Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    scorer_options: dict[str, Any] = {}
    floor: Floor | None = None
    beside: Figure | None = None
    leave_out: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _one_way_to_score(self) -> "_Entry":
        if (self.metric is None) == (self.scorer is None):
            raise ValueError(
                "expected `metric` (one of the task's own) or `scorer` (package.module:name), one of the two"
            )
        if self.scorer_options and self.scorer is None:
            raise ValueError("`scorer_options` needs a `scorer`")
        return self

    @model_validator(mode="after")
    def _one_way_to_name_languages(self) -> "_Entry":
        if self.language and self.languages:
            raise ValueError("expected `language` (a label) or `languages` (one benchmark each), found both")
        if not self.languages and "{language}" in f"{self.task}{self.name}{self.config}{self.scorer_options}":
            raise ValueError("`{language}` needs a list `languages` to be filled from")
        return self


class _File(_Strict):
    name: Name
    salt: Text
    shares: _Shares | None = None
    benchmarks: tuple[_Entry, ...] = Field(min_length=1)
    include: tuple[Text, ...] = ()
    group: Text | None = None
    limits: _Limits = _Limits()
    prompting: Prompting = Prompting()
    aggregate: Aggregate = Aggregate()

    @model_validator(mode="before")
    @classmethod
    def _entries_prompt_as_the_suite_but_for_what_they_say(cls, content: Any) -> Any:
        of_all, entries = content.get("prompting"), content.get("benchmarks")
        if not isinstance(of_all, Mapping) or not isinstance(entries, list):
            return content
        laid = [
            {**one, "prompting": {**of_all, **own}}
            if isinstance(one, Mapping) and isinstance(own := one.get("prompting"), Mapping)
            else one
            for one in entries
        ]
        return {**content, "benchmarks": laid}

    @model_validator(mode="after")
    def _items_have_a_split(self) -> "_File":
        if self.shares is None and any(entry.split is None for entry in self.benchmarks):
            raise ValueError(
                "expected `shares` (of optimisation, validation and test), or for each benchmark `split`, the field "
                "of its items that names theirs"
            )
        return self


def load_suite(name_or_path: str | Path, folder: Path | None = None) -> Suite:
    """Returns the suite in a file, one benchmark for each task and language.

    Args:
        name_or_path: a path (it ends in .yaml or .yml), or the name of a shipped suite.
        folder: where the shipped suites lie, NAME.yaml each.

    Raises:
        ConfigError: no such file or name, or a file that is not a suite; names the key and, for a misspelt one, the
            nearest.
    """
    path = Path(os.path.expanduser(name_or_path))
    if is_name := path.suffix not in (".yaml", ".yml"):
        shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))} if folder else {}
        if str(name_or_path) not in shipped:
            raise ConfigError(
                f"unknown suite {str(name_or_path)!r}{nearest(str(name_or_path), list(shipped))}; give a shipped "
                "name or a path to a .yaml file"
            )
        path = shipped[str(name_or_path)]
    parsed = validate(_File, read(path), str(path))
    benchmarks = tuple(benchmark for entry in parsed.benchmarks for benchmark in _expand(entry, parsed, str(path)))
    names = [benchmark.name for benchmark in benchmarks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{path}: several benchmarks are called {', '.join(twice)}; give each entry its own `name`")
    aggregate = parsed.aggregate
    counted = len(names) if aggregate.over == "benchmarks" else len({benchmark.language for benchmark in benchmarks})
    if aggregate.worst is not None and aggregate.worst > counted:
        raise ConfigError(
            f"{path}: aggregate.worst: expected at most {counted}, the number of {aggregate.over}, found "
            f"{aggregate.worst}"
        )
    shares = {split: getattr(parsed.shares, split) for split in SPLITS} if parsed.shares else {}
    include = tuple(os.path.expanduser(name) for name in parsed.include)
    return Suite(
        parsed.name, parsed.salt, shares, benchmarks, include, path.resolve().parent, aggregate, shipped=is_name
    )


def _expand(entry: _Entry, suite: _File, where: str) -> list[Benchmark]:
    """Benchmarks of one entry, in the order of its languages."""
    template = entry.languages is not None and "{language}" not in entry.task
    limits = {
        split: limit for split in SPLITS if (limit := getattr(entry.limits, split) or getattr(suite.limits, split))
    }
    pattern = entry.name or (entry.task + "_{language}" if template else entry.task)
    benchmarks = []
    for language in entry.languages or (entry.language or UNDETERMINED,):
        words = {"language": language, "prompt_language": entry.prompt_language or language}
        name = _fill(pattern, words)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise ConfigError(
                f"{where}: benchmark name {name!r}: expected letters, digits, '_', '.', '-' only; give the entry a "
                "`name`"
            )
        benchmarks.append(
            Benchmark(
                name=name,
                task=_fill(entry.task, words),
                language=language,
                metric=entry.metric or str(entry.scorer).partition(":")[2],
                weight=entry.weight,
                filter=entry.filter,
                group=entry.group or suite.group,
                split=entry.split,
                limits=limits,
                template=template,
                config=_fill(entry.config, words),
                revision=entry.revision,
                prompt_language=entry.prompt_language,
                scorer=entry.scorer and present_name(entry.scorer),
                scorer_options=_fill(entry.scorer_options, words),
                floor=entry.floor,
                beside=entry.beside,
                leave_out=entry.leave_out,
                prompting=entry.prompting or suite.prompting,
            )
        )
    return benchmarks


def _fill(value: Any, words: Mapping[str, str]) -> Any:
    """The value with `{word}` replaced in every text of it for each of the words; Jinja's own `{{word}}` is left
    alone."""
    if isinstance(value, str):
        return re.sub(r"(?<!\{)\{(\w+)\}(?!\})", lambda match: words.get(match[1], match[0]), value)
    if isinstance(value, Mapping):
        return {key: _fill(part, words) for key, part in value.items()}
    return [_fill(part, words) for part in value] if isinstance(value, list) else value
