"""Where a path leads that stands in a file: from that file's folder, whatever folder the program was started in."""

import glob
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.suites.suite import Benchmark

_KWARGS, _FILES = "dataset_kwargs", ("data_files", "data_dir")
_LOADERS = ("arrow", "csv", "json", "parquet", "text", "xml")
"""Values of `dataset_path` that mean a kind of files, not a data set, from whose own folder they would lead."""
_SUFFIXES = frozenset((".arrow", ".csv", ".gz", ".json", ".jsonl", ".parquet", ".tsv", ".txt", ".xml", ".zip", ".zst"))
"""Of files of data."""


def lead(text: str, folder: Path, where: str) -> str:
    """Returns the whole path that a text means in a file; `~` is the user's home.

    Args:
        text: as it stands there; it may be a pattern (`data/*.jsonl`).
        folder: of the file.
        where: file and key, for the error's text.

    Raises:
        ConfigError: nothing is there, but where the path leads from the current folder.
    """
    path = Path(os.path.expanduser(text))  # which leaves the `~` of an unknown user alone
    led = folder.resolve() / path
    if not _exists(led) and not path.is_absolute() and _exists(here := Path.cwd() / path):
        raise ConfigError(
            f"{where}: {text} leads from the file's folder to {led}, where nothing is, not from the current one, where "
            f"there is {here}; write that whole path, or the path from {folder.resolve()}"
        )
    return str(led)


def _exists(path: Path) -> bool:
    return path.exists() or (glob.has_magic(str(path)) and next(glob.iglob(str(path)), None) is not None)


def with_data_files(benchmark: Benchmark, task: Mapping[str, Any], folder: Path) -> Benchmark:
    """Returns the benchmark with the files on this machine that its task reads by their whole paths.

    Args:
        benchmark: of a suite.
        task: the task's own keys.
        folder: of the suite: from there they lead, whether the task or the suite names them.

    Raises:
        ConfigError: as `lead`.
    """
    given = {**(task.get(_KWARGS) or {}), **(benchmark.config.get(_KWARGS) or {})}
    kind = str(benchmark.config.get("dataset_path", task.get("dataset_path") or ""))
    where = f"benchmark {benchmark.name}: data_files"
    changed: dict[str, Any] = {}
    if kind in _LOADERS:
        changed = {_KWARGS: {**given, **{key: _led(given[key], folder, where) for key in _FILES if given.get(key)}}}
    elif _is_local(kind, folder):
        changed = {"dataset_path": lead(kind, folder, f"benchmark {benchmark.name}: dataset_path")}
    return replace(benchmark, config={**benchmark.config, **changed}) if any(changed.values()) else benchmark


def asks_the_hub(path: str) -> bool:
    """Returns whether the `dataset_path` of a task, by `with_data_files`, is a data set's name on the hub."""
    return path not in _LOADERS and not Path(path).exists()


def _is_local(path: str, folder: Path) -> bool:
    """A bare name is a data set's on the hub, unless a folder of that name holds data, not tasks alone."""
    if path.startswith((".", "~")):
        return True
    found = folder / path
    if path and "/" not in path and found.is_dir():
        return any(file.suffix in _SUFFIXES for file in found.rglob("*"))
    return bool(path) and found.exists()


def _led(value: Any, folder: Path, where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _led(one, folder, where) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_led(one, folder, where) for one in value]
    if not isinstance(value, str) or "://" in value or "::" in value:
        return value
    led, root = lead(value, folder, where), f"{folder.resolve()}{os.sep}"
    if Path(led).exists():
        return glob.escape(led)  # the library takes every name for a pattern
    return glob.escape(root) + led.removeprefix(root) if glob.has_magic(value) and led.startswith(root) else led
