"""What comes out can be used: each file that a consumer's library needs goes with the merged, the rebuilt and the
published model, and plain transformers opens it there as it opens the base."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from made import tokenizers
from made.models import tiny_llama
from psomerge import recipe as recipes
from psomerge.tasks.release import publish
from runs.command_line import Said, psomerge
from runs.small_run import perturbed

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]

TEXT = "the cat sat on a b"
TEMPLATES = {"tool_use": "{{ messages }} with tools", "rag": "{{ messages }} with texts"}


def pair(folder: Path, change: Callable[[Path], object]) -> None:
    """A base with one change of its files, and an expert of it with the same files."""
    base = tokenizers.without_tokenizer(tiny_llama(folder / "base", vocab=320))
    change(base)
    perturbed(base, folder / "one", 1)


def merge(folder: Path, *more: object) -> Said:
    models = ["--base", folder / "base", "--expert", folder / "one", "--out", folder / "out"]
    return psomerge("merge", "linear", *models, *more, home=folder / "home")


def made(folder: Path, *more: object) -> list[Path]:
    """The folders of the merged, the rebuilt and the published model."""
    said = merge(folder, *more)
    assert said.code == 0, said.err
    recipe = folder / "out" / "recipe.json"
    said = psomerge("materialize", recipe, "--out", folder / "again", home=folder / "home")
    assert said.code == 0, said.err
    published = publish.lay_out(folder / "again", folder / "published", recipe=recipes.read(recipe), card="c")
    assert publish.misfits(published) == []
    return [folder / "out", folder / "again", published / "model"]


def ids(folder: Path) -> list[int]:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True).encode(TEXT)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_a_tokenizer_in_whatever_files_goes_with_every_model_made(kind: str, tmp_path: Path) -> None:
    pair(tmp_path, tokenizers.KINDS[kind])
    expected = ids(tmp_path / "base")
    assert len(set(expected)) > 3
    folders = made(tmp_path)
    for folder in [*folders, tmp_path / "published" / "components" / "tokenizer"]:
        assert ids(folder) == expected, folder


def test_every_file_that_a_tokenizer_of_the_library_reads_is_one_of_a_checkpoint() -> None:
    import importlib
    import pkgutil

    import transformers.models
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from psomerge.files.names import TOKENIZER_FILES

    for module in pkgutil.walk_packages(transformers.models.__path__, "transformers.models."):
        if ".tokenization_" in module.name:
            try:
                importlib.import_module(module.name)
            except Exception:  # it needs a library that is not here: then nobody here reads its files
                continue
    classes, found = [PreTrainedTokenizerBase], set[str]()
    while classes:
        kind = classes.pop()
        classes += kind.__subclasses__()
        found |= set(kind.vocab_files_names.values())
    assert len(found) > 15
    assert found <= set(TOKENIZER_FILES)


def further_templates(folder: Path) -> None:
    tokenizers.spiece(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }} plainly")
    (folder / "additional_chat_templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text)


def test_further_chat_templates_go_with_every_model_made(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    pair(tmp_path, further_templates)
    for folder in made(tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        assert tokenizer.chat_template == {"default": "{{ messages }} plainly"} | TEMPLATES


PROCESSOR = {
    "preprocessor_config.json": {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 16,
        "sampling_rate": 16000,
        "processor_class": "Qwen2AudioProcessor",
    },
    "chat_template.json": {"chat_template": "{{ messages }} with sounds"},
}
"""Of a model that hears: pictures need libraries that are not here."""


def processor(folder: Path) -> None:
    tokenizers.tokenizer_model(folder)
    for name, content in PROCESSOR.items():
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("whose", ["both", "the base's", "the chosen expert's"])
def test_a_processor_goes_with_every_model_made(whose: str, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    pair(tmp_path, processor)
    other = {"both": "", "the base's": "one", "the chosen expert's": "base"}[whose]
    if other:
        (tmp_path / other / "preprocessor_config.json").unlink()
    for folder in made(tmp_path, "--tokenizer-from", tmp_path / "one"):
        found = AutoProcessor.from_pretrained(folder, local_files_only=True)
        assert type(found).__name__ == "Qwen2AudioProcessor"
        assert found.feature_extractor.feature_size == 16
        assert found.chat_template == "{{ messages }} with sounds"
        assert found.tokenizer.encode(TEXT) == ids(tmp_path / "base")


@pytest.mark.parametrize("name", ["processor_config.json", "video_preprocessor_config.json"])
def test_every_file_of_a_processor_is_carried_bit_for_bit(name: str, tmp_path: Path) -> None:
    pair(tmp_path, lambda folder: (processor(folder), (folder / name).write_text('{"patch_size": 14}\n')))
    for folder in made(tmp_path):
        assert (folder / name).read_text() == '{"patch_size": 14}\n'


def test_a_tekken_file_beside_tokenizer_json_stays_behind_and_that_is_said(tmp_path: Path) -> None:
    from made.models import byte_tokenizer

    pair(tmp_path, lambda folder: (byte_tokenizer(320).save_pretrained(folder), tokenizers.tekken(folder)))
    said = merge(tmp_path)
    assert "tekken.json" in said.out
    assert not (tmp_path / "out" / "tekken.json").exists()
    assert len(set(ids(tmp_path / "out"))) > 3
