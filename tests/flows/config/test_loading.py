"""Configs are read strictly, and a value by `--set` is read as the same text in the file would be."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from psomerge.errors import ConfigError
from psomerge.flows.config.loading import evaluation_config, load_config

CONFIG: dict[str, Any] = {
    "name": "small",
    "base": "base",
    "experts": {"one": "one"},
    "suite": "quickstart",
    "register": {"model": "small"},
}


def in_file(folder: Path, key: str, text: str) -> Path:
    """A config with `text`, as it stands, as the value of a key of at most two parts."""
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in CONFIG.items()}
    *parents, last = key.split(".")
    place = content
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = "TEXT"
    path = folder / "written.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False).replace("TEXT", text), encoding="utf-8")
    return path


def in_override(folder: Path) -> Path:
    path = folder / "plain.yaml"
    path.write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        # By YAML 1.2's core schema; 1.1 has False, 8, 750, text, False here.
        ("name", "NO", "NO"),
        ("seed", "010", 10),
        ("register.experiment", "12:30", "12:30"),
        ("swarm.scale", "1e-3", 0.001),
        ("stopping", "off", "off"),
        ("swarm.scale", "~", None),
        ("swarm.scale", "", None),
        ("compare.swarms", "[star, paper]", ("star", "paper")),
        ("compare.swarms", "[&again star, *again]", ("star", "star")),
        ("register", "{model: NO}", "NO"),
    ],
)
def test_a_value_is_the_same_in_a_file_and_by_set(tmp_path: Path, key: str, text: str, expected: object) -> None:
    for config in (
        load_config(str(in_file(tmp_path, key, text))),
        load_config(str(in_override(tmp_path)), [f"{key}={text}"]),
    ):
        found: Any = config.canonical()
        for part in key.split("."):
            found = found[part]
        found = found["model"] if isinstance(found, dict) else found
        assert (tuple(found) if isinstance(found, list) else found) == expected


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("compare.swarms", "[star, NO]", "compare.swarms.1: unknown swarm 'NO'; known are paper, star"),
        ("stopping", "false", "stopping: Input should be 'exact', 'sequential' or 'off', found False"),
        ("stopping", "NO", "stopping: Input should be 'exact', 'sequential' or 'off', found 'NO'"),
        ("name", "010", "name: Input should be a valid string, found 10"),
        ("swarm", "{steps: 1, steps: 2}", "line N: key 'steps' is given twice; remove one"),
        ("swarm", "{1: 2}", "line N: expected text as a key, found 1; write it in quotes"),
        (
            "name",
            "!!python/name:os.getcwd x",
            "line N: could not determine a constructor for the tag 'tag:yaml.org,2002:python/name:os.getcwd'",
        ),
        ("name", "!mine x", "line N: could not determine a constructor for the tag '!mine'"),
        ("name", "*none", "line N: found undefined alias 'none'"),
        ("swarm", "[" * 2000 + "]" * 2000, "expected YAML of a few levels, found hundreds of nested ones"),
    ],
)
def test_what_a_file_may_not_say_set_may_not_either(tmp_path: Path, key: str, text: str, words: str) -> None:
    for path, overrides in ((in_file(tmp_path, key, text), []), (in_override(tmp_path), [f"{key}={text}"])):
        with pytest.raises(ConfigError) as caught:
            load_config(str(path), overrides)
        said = str(caught.value)
        assert "\n" not in said
        assert re.sub(r"line \d+", "line N", said).endswith(words)


def test_the_settings_of_an_evaluation_are_read_alike() -> None:
    found = evaluation_config("quickstart", ["experiment=NO", "seed=010", "engine.threads=2"])
    assert (found.experiment, found.seed, found.engine.threads) == ("NO", 10, 2)
    with pytest.raises(ConfigError, match=r"--set: engine\.threads: .*valid integer.*, found '12:30'"):
        evaluation_config("quickstart", ["engine.threads=12:30"])
    with pytest.raises(ConfigError, match=r"--set engine=\{kind: vllm, kind: auto\}: .*key 'kind' is given twice"):
        evaluation_config("quickstart", ["engine={kind: vllm, kind: auto}"])
