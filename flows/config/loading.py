"""Configs from their files, with overrides laid over them."""

from pathlib import Path
from typing import Any

from psomerge.errors import ConfigError, nearest
from psomerge.evals.suites.strict_yaml import parse, read, validate
from psomerge.flows.config.schema import Config, EvaluationConfig


def configs_folder() -> Path:
    """Returns the folder of the shipped configs."""
    return Path(__file__).parents[2] / "configs"


def load_config(name_or_path: str, overrides: list[str] | None = None) -> Config:
    """Returns the config in a file, with `a.b=c` overrides laid over it.

    Args:
        name_or_path: a path that ends in .yaml or .yml, or the name of a shipped config.
        overrides: each `key.key=value`; the value is read as in the file.

    Raises:
        ConfigError: no such file, an unknown key (the nearest is named), or a value that cannot be.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        shipped = {file.stem: file for file in sorted(configs_folder().glob("*.yaml"))}
        if name_or_path not in shipped:
            raise ConfigError(
                f"unknown config {name_or_path!r}{nearest(name_or_path, list(shipped))}; give a shipped name or a "
                "path to a .yaml file"
            )
        path = shipped[name_or_path]
    content = read(path)
    for override in overrides or []:
        _lay_over(content, override)
    suite = content.get("suite")
    if isinstance(suite, str) and Path(suite).suffix in (".yaml", ".yml"):
        content["suite"] = str((path.parent / suite).resolve())  # as written: beside the config
    return validate(Config, content, str(path))


def evaluation_config(suite: str, overrides: list[str]) -> EvaluationConfig:
    """Returns the settings of an evaluation. Raises ConfigError as `load_config`."""
    content: dict[str, Any] = {
        "suite": str(Path(suite).resolve()) if Path(suite).suffix in (".yaml", ".yml") else suite
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
    place[last] = parse(value, f"--set {override}: the value is not YAML")
