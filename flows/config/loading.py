"""Configs from their files, with overrides laid over them."""

import os
from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError, nearest
from psomerge.evals.suites.paths import lead
from psomerge.evals.suites.strict_yaml import parse_value, read, validate
from psomerge.flows.config.schema import Config, EvaluationConfig
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.local import Folder

_FILES = (".yaml", ".yml")


def configs_folder() -> Path:
    """Returns the folder of the shipped configs."""
    return Path(__file__).parents[2] / "configs"


def load_config(name_or_path: str, overrides: list[str] | None = None) -> Config:
    """Returns the config in a file, with `a.b=c` overrides laid over it, and whole paths in it.

    Args:
        name_or_path: a path that ends in .yaml or .yml, or the name of a shipped config.
        overrides: each `key.key=value`; the value is read as in the file, and a path leads from the file's folder too;
            all paths of a shipped config lead from the current one.

    Raises:
        ConfigError: no such file, an unknown key (the nearest is named), a value that cannot be, or a path that leads
            to nothing but from the current folder.
    """
    path = Path(os.path.expanduser(name_or_path))
    folder = path.parent
    if path.suffix not in _FILES:
        shipped = {file.stem: file for file in sorted(configs_folder().glob("*.yaml"))}
        if name_or_path not in shipped:
            raise ConfigError(
                f"unknown config {name_or_path!r}{nearest(name_or_path, list(shipped))}; give a shipped name or a "
                "path to a .yaml file"
            )
        path, folder = shipped[name_or_path], Path.cwd()
    content = read(path)
    for override in overrides or []:
        _lay_over(content, override)
    if isinstance(suite := content.get("suite"), str) and Path(suite).suffix in _FILES:
        content["suite"] = lead(suite, folder, f"{path}: suite")
    experts = content.get("experts")
    named = experts if isinstance(experts, dict) else {}
    for models, key, where in ((content, "base", "base"), *((named, name, f"experts.{name}") for name in named)):
        if isinstance(address := models.get(key), str) and address:
            models[key] = _model(address, folder, f"{path}: {where}")
    return validate(Config, content, str(path))


def _model(address: str, folder: Path, where: str) -> str:
    """The address of a model; of a folder its whole path."""
    is_here = (folder / os.path.expanduser(address)).is_dir()
    return lead(address, folder, where) if is_here or isinstance(parse(address), Folder) else address


def evaluation_config(suite: str, overrides: list[str]) -> EvaluationConfig:
    """Returns the settings of an evaluation. Raises ConfigError as `load_config`."""
    content: dict[str, Any] = {
        "suite": str(Path(os.path.expanduser(suite)).resolve()) if Path(suite).suffix in _FILES else suite
    }
    for override in overrides:
        _lay_over(content, override)
    return validate(EvaluationConfig, content, "--set")


def _lay_over(content: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, e.g. --set swarm.steps=3")
    *parents, last = name.split(".")
    place = content
    for part in parents:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"--set {override}: {part!r} holds a value, no further keys")
    place[last] = parse_value(value, f"--set {override}: the value is not YAML")
