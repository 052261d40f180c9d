"""What is there as a whole is the model, before any part of its name is read as a weight, a revision or a scheme."""

import os
from pathlib import Path

import pytest

from made.models import tiny_llama
from psomerge.errors import ConfigError
from psomerge.tasks.sources.address import is_recipe, parse
from psomerge.tasks.sources.local import Folder
from psomerge.tasks.sources.named_model import named_model
from psomerge.tasks.tracking.store import Store
from runs.command_line import psomerge
from runs.small_run import perturbed

NAMES = (
    "lr=1e-4",
    "step=1000",
    "model@v1",
    "hf:",
    "a: b #c d",
    "hf://org/name@main",
    "s3://bucket/prefix",
    "models:/name/1",
    "embedded://base@0",
    "gs://bucket/model",
    "checkpoint.json",
    "100%",
    "émile 'x' \"y\" $HOME;&",
    "-rf",
    "~model",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and an expert under every name."""
    folder = tmp_path_factory.mktemp("named")
    base = tiny_llama(folder / "base")
    expert = perturbed(base, folder / "expert", 1)
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).mkdir()
        for file in expert.iterdir():
            os.link(file, folder / name / file.name)
    return folder


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_the_model_whatever_its_name_looks_like(models: Path, name: str, tmp_path: Path) -> None:
    for address in (name, f"./{name}", str(models / name)):
        assert isinstance(parse(address), Folder)
        assert not is_recipe(address)
        found = named_model(address, tmp_path, lambda what, share: None, lambda: Store("sqlite:////none"))
        assert found.folders["base"] == (models / name).resolve()


def test_what_is_not_there_is_read_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not isinstance(parse("hf://org/name@main"), Folder)
    assert isinstance(parse("models/none"), Folder)
    assert is_recipe("recipe.json")
    assert not is_recipe("hf://org/name.json")
    assert not is_recipe("s3://bucket/model.json")
    with pytest.raises(ConfigError, match="download the model first"):
        parse("gs://bucket/model")
    with pytest.raises(ConfigError, match="expected hf://ORG/NAME"):
        parse("hf://org")


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("-")])
def test_such_a_model_is_merged_and_checked(models: Path, name: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for expert, weight in ((name, "1"), (f"{models / name}=2", "2")):
        out = tmp_path / weight
        said = psomerge("merge", "task_arithmetic", "--base", "base", "--expert", expert, "--out", out, home=home)
        assert said.code == 0, said.err
    plain = tmp_path / "plain"
    assert psomerge("merge", "task_arithmetic", "--base=base", "--expert=expert", "--out", plain, home=home).code == 0
    weights = [(place / "model.safetensors").read_bytes() for place in (tmp_path / "1", tmp_path / "2", plain)]
    assert weights[0] == weights[2] != weights[1]
    said = psomerge("check", name, "--base", "base", home=home)
    assert (said.code, "fits the base" in said.out) == (0, True), said.err


@pytest.mark.heavy
def test_a_weight_is_read_where_the_whole_is_not_there(models: Path, tmp_path: Path) -> None:
    arguments = ("merge", "task_arithmetic", "--base", "base", "--out", tmp_path / "out", "--expert")
    said = psomerge(*arguments, "expert=0x2", home=tmp_path / "home")
    assert said.code == 0, said.err
    said = psomerge(*arguments, "expert=1_0", home=tmp_path / "home")
    assert (said.code, "expected a number after '=', found '1_0'" in said.line) == (2, True)
    said = psomerge(*arguments, "step=1", home=tmp_path / "home")
    assert (said.code, f"{models}/step: expected a checkpoint folder" in said.text) == (3, True)
