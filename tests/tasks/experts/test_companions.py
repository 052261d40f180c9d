"""A model that nobody can use for want of a file beside its weights is told so, and what to do; one that needs none
passes."""

from pathlib import Path

import pytest

from made import tokenizers
from made.models import byte_tokenizer, tiny_llama
from psomerge.errors import ConfigError
from psomerge.tasks.experts.fitting import open_fitting
from runs.command_line import psomerge
from runs.small_run import perturbed

pytestmark = pytest.mark.heavy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base without tokenizer, and two experts without."""
    base = tokenizers.without_tokenizer(tiny_llama(tmp_path / "base", vocab=320, layers=1))
    for seed, name in enumerate(("one", "two"), 1):
        perturbed(base, tmp_path / name, seed)
    return tmp_path


def checked(folder: Path, *arguments: object) -> str:
    said = psomerge("check", *arguments, home=folder / "home")
    assert (said.code, said.err) == (0, ""), said.err
    return said.out


def merge(folder: Path, *more: object) -> str:
    models = ["--base", folder / "base", "--expert", folder / "one", "--expert", folder / "two"]
    said = psomerge("merge", "linear", *models, "--out", folder / "out", *more, home=folder / "home")
    assert said.code == 0, said.err
    return said.out


def test_a_checkpoint_without_any_tokenizer_is_told_what_is_missing_what_it_means_and_what_to_do(folder: Path) -> None:
    (line,) = (line for line in checked(folder, folder / "one").splitlines() if "warning" in line)
    for words in ("tokenizer", "tokenizer.json", "found none", "neither judged nor used", "into its folder"):
        assert words in line


def test_an_expert_beside_a_base_without_tokenizer_is_told_so_and_beside_one_that_has_one_not(folder: Path) -> None:
    assert checked(folder, folder / "one", "--base", folder / "base").count("found none") == 1
    tokenizers.spiece(folder / "base")
    assert "warning" not in checked(folder, folder / "one", "--base", folder / "base")


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_a_checkpoint_with_a_tokenizer_of_any_kind_is_told_nothing(kind: str, folder: Path) -> None:
    tokenizers.KINDS[kind](folder / "one")
    assert "warning" not in checked(folder, folder / "one")


def test_a_merge_of_models_without_tokenizer_says_so(folder: Path) -> None:
    assert "neither judged nor used" in merge(folder)


def test_where_the_base_has_no_tokenizer_the_experts_is_taken(folder: Path) -> None:
    for name in ("one", "two"):
        tokenizers.spiece(folder / name)
    assert "found none" not in merge(folder)
    assert (folder / "out" / "spiece.model").read_bytes() == (folder / "one" / "spiece.model").read_bytes()


def test_where_the_base_has_no_tokenizer_and_experts_have_different_ones_one_must_be_named(folder: Path) -> None:
    tokenizers.spiece(folder / "one")
    byte_tokenizer(320).save_pretrained(folder / "two")
    folders = {name: folder / name for name in ("base", "one", "two")}
    with pytest.raises(ConfigError, match="the base has no tokenizer, and those of two differ from that of one"):
        open_fitting(folders, None)
    assert open_fitting(folders, "two").tokenizer_from == "two"


def test_a_processor_that_differs_from_the_one_taken_is_told(folder: Path) -> None:
    for name, size in (("base", 14), ("one", 14), ("two", 28)):
        (folder / name / "preprocessor_config.json").write_text(f'{{"patch_size": {size}, "do_resize": true}}')
    said = merge(folder)
    assert said.count("preprocessor_config.json") == 1
    assert 'expert "two": preprocessor_config.json: expected that of base, found another patch_size' in said
    assert '"patch_size": 14' in (folder / "out" / "preprocessor_config.json").read_text()
