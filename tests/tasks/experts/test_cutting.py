"""Tokenizers as families publish them, and as the installed transformers saves them after it has opened them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from made.models import tiny_llama
from made.tokenizers import spiece, tokenizer_model, vocab_and_merges, vocab_txt, without_tokenizer
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ConfigError
from psomerge.tasks.experts.cutting import cut_alike
from psomerge.tasks.experts.fitting import choose_tokenizer
from psomerge.vocabulary.tokenizer import tokenizers_differ

pytestmark = pytest.mark.heavy
BOS = {"SpecialToken": {"id": "<s>", "type_id": 0}}
LETTERS = ("<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"\u2581abcdefghijklmnopqrstuvwxyz")
LLAMA2 = {
    "version": "1.0",
    "added_tokens": [
        {"id": number, "content": word, "special": True, "normalized": False, "lstrip": False, "rstrip": False}
        | {"single_word": False}
        for number, word in enumerate(("<unk>", "<s>", "</s>"))
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        ],
    },
    "pre_tokenizer": None,
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [BOS, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [BOS, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    },
    "decoder": {"type": "ByteFallback"},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    | {"vocab": {word: number for number, word in enumerate(LETTERS)}, "merges": []},
}
"""As Llama 2 has it: blanks become marks before the text is cut. Transformers 5 makes another step of that."""
SETTINGS = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def with_tokenizer(folder: Path, content: dict) -> Path:
    tiny_llama(folder, vocab=len(LETTERS))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS | {"legacy": False}))
    return folder


def test_a_tokenizer_that_the_library_saved_in_its_own_way_is_the_same(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = with_tokenizer(tmp_path / "base", LLAMA2)
    expert = with_tokenizer(tmp_path / "expert", LLAMA2)
    AutoTokenizer.from_pretrained(folder).save_pretrained(expert)
    base, other = open_checkpoint(folder, "base"), open_checkpoint(expert, "expert")
    assert tokenizers_differ(base, other)  # as it is written
    assert cut_alike(base, other)
    assert choose_tokenizer(base, [other], None) == "base"


def test_another_tokenizer_is_another(tmp_path: Path) -> None:
    base = open_checkpoint(with_tokenizer(tmp_path / "base", LLAMA2))
    vocabulary = LLAMA2["model"]["vocab"] | {"a": LLAMA2["model"]["vocab"]["b"], "b": LLAMA2["model"]["vocab"]["a"]}
    swapped = LLAMA2 | {"model": LLAMA2["model"] | {"vocab": vocabulary}}
    assert not cut_alike(base, open_checkpoint(with_tokenizer(tmp_path / "swapped", swapped)))
    unopened = open_checkpoint(with_tokenizer(tmp_path / "unopened", LLAMA2))
    (tmp_path / "unopened" / "tokenizer.json").write_text("{}")
    assert not cut_alike(base, unopened)


def spoken_pair(folder: Path, files: Callable[[Path], None], ours: dict, theirs: dict) -> list[Checkpoint]:
    """Base and expert with the same tokenizer files, but for what is said in tokenizer_config.json."""
    made = []
    for name, settings in (("base", ours), ("expert", theirs)):
        tiny_llama(folder / name, vocab=len(LETTERS))
        without_tokenizer(folder / name)
        files(folder / name)
        path = folder / name / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        made.append(open_checkpoint(folder / name, name))
    return made


@pytest.mark.parametrize(
    ("files", "ours", "theirs"),
    [
        (tokenizer_model, {"add_bos_token": True}, {"add_bos_token": False}),
        (tokenizer_model, {}, {"add_eos_token": True}),
        (vocab_txt, {"do_lower_case": False}, {"do_lower_case": True}),
        (vocab_txt, {}, {"do_lower_case": False}),
        (vocab_and_merges, {"add_prefix_space": False}, {"add_prefix_space": True}),
        (spiece, {}, {"tokenizer_class": "LlamaTokenizer"}),
    ],
)
def test_settings_by_which_the_library_cuts_otherwise_are_asked_about(
    tmp_path: Path, files: Callable[[Path], None], ours: dict, theirs: dict
) -> None:
    """Without a tokenizer.json only the vocabulary was compared, and the base's begin of text won silently."""
    base, expert = spoken_pair(tmp_path, files, ours, theirs)
    assert tokenizers_differ(base, expert)
    with pytest.raises(ConfigError, match="the tokenizers of expert differ from the base's"):
        choose_tokenizer(base, [expert], None)
    assert choose_tokenizer(base, [expert], "expert") == "expert"


@pytest.mark.parametrize(
    ("files", "ours", "theirs"),
    [
        (tokenizer_model, {}, {"add_eos_token": False, "tokenizer_class": "LlamaTokenizerFast"}),
        (tokenizer_model, {}, {"clean_up_tokenization_spaces": True, "model_max_length": 9, "padding_side": "left"}),
        (vocab_txt, {}, {"do_lower_case": True}),
        (vocab_and_merges, {"add_prefix_space": False}, {}),
        (spiece, {}, {"legacy": True}),
    ],
)
def test_settings_by_which_the_library_cuts_alike_are_no_question(
    tmp_path: Path, files: Callable[[Path], None], ours: dict, theirs: dict
) -> None:
    base, expert = spoken_pair(tmp_path, files, ours, theirs)
    assert choose_tokenizer(base, [expert], None) == "base"


def test_a_setting_beside_one_tokenizer_json_counts_where_the_library_heeds_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base, expert = (with_tokenizer(tmp_path / name, LLAMA2) for name in ("base", "expert"))
    settings = json.loads((expert / "tokenizer_config.json").read_text()) | {"add_bos_token": False}
    (expert / "tokenizer_config.json").write_text(json.dumps(settings))
    one, other = (AutoTokenizer.from_pretrained(folder)("a b").input_ids for folder in (base, expert))
    assert (one == other) is not _asked(base, expert)


def _asked(base: Path, expert: Path) -> bool:
    try:
        choose_tokenizer(open_checkpoint(base, "base"), [open_checkpoint(expert, "expert")], None)
    except ConfigError:
        return True
    return False
