"""Models are opened, held against each other and given a tokenizer in one place, as strictly for a rebuild as for a
run."""

from dataclasses import replace
from pathlib import Path

import pytest

from made.adapters import lora
from made.families import MISTRAL, member
from made.models import tiny_llama
from psomerge.checkpoint.pins import pin
from psomerge.errors import ArtefactError
from psomerge.recipe import Recipe, from_dict
from psomerge.tasks.experts.fitting import open_fitting
from psomerge.tasks.experts.rebuild import rebuild


def broken(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"\0" * 20)
    return folder


def test_a_lone_model_that_is_broken_is_called_by_its_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        open_fitting({"base": broken(tiny_llama(tmp_path / "model", 0))}, None)
    assert str(caught.value).startswith(f"{tmp_path / 'model'}")
    assert "fine-tuned from one base" not in str(caught.value)


def test_an_adapter_is_not_blamed_for_a_base_that_is_broken(tmp_path: Path) -> None:
    folders = {"base": tiny_llama(tmp_path / "base", 0), "full": tiny_llama(tmp_path / "full", 1)}
    folders["adapter"] = lora(folders["base"], tmp_path / "adapter", 2)
    assert [one.name for one in open_fitting(folders, None).experts] == ["full", "adapter"]
    broken(folders["base"])
    broken(folders["full"])
    with pytest.raises(ArtefactError) as caught:
        open_fitting(folders, None)
    assert '"base": ' in str(caught.value)
    assert '"full": ' in str(caught.value)
    assert '"adapter": ' not in str(caught.value)


def test_a_rebuild_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    # The base leaves the window to its class, where it is 4096; the expert has none.
    folders = {
        "base": member(tmp_path / "base", MISTRAL, "base", sliding_window=4096),
        "tam": member(tmp_path / "tam", MISTRAL, "base", seed=1, sliding_window=None),
    }
    config = folders["base"] / "config.json"
    config.write_text(config.read_text().replace('"sliding_window": 4096', '"use_cache": true'))
    sources = {name: pin(folder, name, str(folder)) for name, folder in folders.items()}
    recipe = Recipe(sources["base"], (sources["tam"],)).with_coefficients([[1.0]])
    with pytest.raises(ArtefactError, match=r'expert "tam" .*sliding_window'):
        rebuild(recipe, folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [("tam", "tam"), ("base", "tam"), (["so"], "tam")])
def test_a_recipe_whose_experts_share_a_name_is_refused(tmp_path: Path, names: tuple[object, str]) -> None:
    source = pin(tiny_llama(tmp_path / "model", 0), "model", "model")
    recipe = Recipe(source, tuple(replace(source, name=name) for name in names)).with_coefficients([[0.5, 0.5]])
    with pytest.raises(ArtefactError, match="experts need names of their own"):
        from_dict(recipe.to_dict())
