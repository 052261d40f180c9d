"""What a suite lays over a task's own configuration, key by key: what it does not say is the task's own."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.suites.suite import Benchmark

MERGED = ("dataset_kwargs", "fewshot_config", "generation_kwargs", "metadata")
"""Keys of a task whose own keys stay where the suite says nothing of them; every other is replaced whole."""


def overlay(manager: Any, benchmark: Benchmark, cache: Path | None) -> dict[str, Any]:
    """Returns what is laid over the task's own configuration: the suite's `config`, shots where it says how many, the
    language of a template, revision and cache of its data.

    Args:
        manager: lm-eval's TaskManager that knows the task.
        benchmark: of the suite.
        cache: folder for what `datasets` keeps; a `cache_dir` of the task's own or of the suite's comes first.

    Raises:
        ConfigError: the benchmark's `config` says what other keys of its entry do.
    """
    if fixed := {"num_fewshot", "task"} & set(benchmark.config):
        raise ConfigError(
            f"`config` cannot set {', '.join(sorted(fixed))}: the keys `prompting` and `task` of the entry do; "
            "remove it"
        )
    own = _own(manager.task_index[benchmark.task], benchmark)
    laid: dict[str, dict[str, Any]] = {key: dict(benchmark.config.get(key) or {}) for key in MERGED}
    if benchmark.template:
        laid["metadata"]["language"] = benchmark.language
    if benchmark.revision:
        laid["dataset_kwargs"]["revision"] = benchmark.revision
    if cache and "custom_dataset" not in own and "class" not in own:
        laid["dataset_kwargs"] = {
            "cache_dir": (own.get("dataset_kwargs") or {}).get("cache_dir", str(cache)),
            **laid["dataset_kwargs"],
        }
    merged = {key: {**_mapping(own.get(key)), **values} for key, values in laid.items() if values}
    shots = benchmark.prompting.num_fewshot
    return {**benchmark.config, **merged, **({} if shots is None else {"num_fewshot": shots})}


def check_taken(task: Any, overrides: Mapping[str, Any]) -> None:
    """Raises ConfigError for what was laid over a task and is not in its configuration: a class of the task's own may
    take none, or only some of it."""
    for key, value in overrides.items():
        found = getattr(task.config, key, None)
        found = asdict(found) if is_dataclass(found) and not isinstance(found, type) else found
        same = (
            all(_mapping(found).get(one) == part for one, part in value.items() if one != "trust_remote_code")
            if (isinstance(value, dict) and key in MERGED)
            else found == value
        )
        if not same:
            raise ConfigError(
                f"expected the task's `{key}` to be {value!r}, as the suite says, found {found!r}: the task's own "
                "class does not take it; set it there"
            )


def _own(entry: Any, benchmark: Benchmark) -> Mapping[str, Any]:
    """The task's own configuration; with its functions where those are merged with the suite's."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if "fewshot_config" in benchmark.config and entry.yaml_path:
        return load_yaml(entry.yaml_path, resolve_func=True)
    return entry.cfg or {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
