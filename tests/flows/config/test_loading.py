"""Configs are read strictly, and a value by `--set` is read as the same text in the file would be."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from psomerge.errors import ConfigError
from psomerge.flows.config.loading import configs_folder, evaluation_config, load_config

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
        ("seed", "0x1F", 31),
        ("seed", "0o17", 15),
        ("seed", "+7", 7),
        ("swarm.scale", ".5", 0.5),
        ("swarm.scale", "-1.", -1.0),
        ("swarm.scale", "2E+1", 20.0),
        ("register.experiment", "1_000", "1_000"),
        ("register.experiment", "0b11", "0b11"),
        ("register.experiment", "2001-01-01", "2001-01-01"),
        ("register.experiment", "yes", "yes"),
        ("register.experiment", "=", "="),
        ("register.experiment", "<<", "<<"),
        ("register.experiment", "٣", "٣"),
        ("register.experiment", "a #b", "a"),
        ("register.experiment", "a#b", "a#b"),
        ("register.experiment", "'it''s: a'", "it's: a"),
        ("register.experiment", '"\\/\\x41"', "/A"),
        ("register", "{model: qwen2.5-merge}", "qwen2.5-merge"),
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
            "line N: found the tag !!python/name:os.getcwd, expected a value without one",
        ),
        ("name", "!mine x", "line N: found the tag !mine, expected a value without one"),
        ("name", "!!float abc", "line N: found the tag !!float, expected a value without one"),
        ("name", "!!bool hello", "line N: found the tag !!bool, expected a value without one"),
        ("name", "!!timestamp x", "line N: found the tag !!timestamp, expected a value without one"),
        ("name", "!!set {x}", "line N: found the tag !!set, expected a value without one"),
        ("name", "a: b", "line N: mapping values are not allowed here"),
        ("name", "- a", "line N: sequence entries are not allowed here"),
        ("name", "? a", "line N: mapping keys are not allowed here"),
        ("name", "%YAML 1.1", "line N: found character '%' that cannot start any token"),
        ("swarm.scale", ".inf", "swarm.scale: Input should be a finite number, found inf"),
        ("swarm.scale", "-.INF", "swarm.scale: Input should be a finite number, found -inf"),
        ("swarm.scale", ".NaN", "swarm.scale: Input should be a finite number, found nan"),
        ("swarm.scale", "{<<: {a: 1}}", "swarm.scale: Input should be a valid number, found {'<<': {'a': 1}}"),
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a config and models; the current folder is another."""
    for name in ("project/models/one", "project/models/hf:", "here/models/two", "home/mine"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "project" / "suite.yaml").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "project"


def project_config(folder: Path, **values: Any) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG | values, sort_keys=False), encoding="utf-8")
    return str(path)


def test_paths_lead_from_the_config_s_folder(project: Path) -> None:
    experts = {"a": "models/one", "b": "~/mine", "c": "hf://org/name", "d": "../project/models/hf:", "e": "none"}
    found = load_config(project_config(project, base="./models/one", experts=experts, suite="suite.yaml"))
    assert {name: str(Path(address)) for name, address in found.addresses.items() if name != "c"} == {
        "base": f"{project}/models/one",
        "a": f"{project}/models/one",
        "b": f"{project.parent}/home/mine",
        "d": f"{project}/../project/models/hf:",
        "e": f"{project}/none",
    }
    assert (found.experts["c"], found.suite) == ("hf://org/name", f"{project}/suite.yaml")
    again = load_config("../project/config.yaml", ["experts.f=models/one", "suite=quickstart"])
    assert (again.experts["f"], again.suite) == (f"{project}/models/one", "quickstart")
    assert again.base == found.base


@pytest.mark.parametrize("value", [5, ["one"], None, {"a": 5}, {"a": None}, {"a": ""}, "one"])
def test_models_of_another_form_are_told_as_such(project: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match="experts"):
        load_config(project_config(project, experts=value))
    with pytest.raises(ConfigError, match="base"):
        load_config(project_config(project, base=[]))


def test_the_tilde_of_nobody_is_a_letter(project: Path) -> None:
    found = load_config(project_config(project, experts={"a": "~no-such-user/x"}))
    assert found.experts == {"a": f"{project}/~no-such-user/x"}


@pytest.mark.parametrize(("key", "value"), [("base", "models/two"), ("experts", {"x": "models/two"})])
def test_a_path_that_leads_somewhere_from_the_current_folder_only_is_told(project: Path, key: str, value: Any) -> None:
    words = r"leads from the file's folder to .*/project/models/two, where nothing is, .*/here/models/two"
    with pytest.raises(ConfigError, match=rf"config\.yaml: {key}.*: models/two {words}"):
        load_config(project_config(project, **{key: value}))


def test_over_a_shipped_config_paths_lead_from_the_current_folder(project: Path) -> None:
    found = load_config("quickstart", ["base=models/two", "experts.x=~/mine", "suite=../project/suite.yaml"])
    assert (found.base, found.experts["x"]) == (f"{project.parent}/here/models/two", f"{project.parent}/home/mine")
    assert Path(found.suite).resolve() == project / "suite.yaml"


def test_the_shipped_config_of_folders_takes_them_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "smollm2" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load_config("smollm2").base == f"{tmp_path}/models/smollm2/base"
    with pytest.raises(ConfigError, match=rf"smollm2\.yaml: base: .* there is {tmp_path}/models/smollm2/base; write"):
        load_config(str(configs_folder() / "smollm2.yaml"))
