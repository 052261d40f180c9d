"""The small files beside the weights are looked at before a library opens them."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from made import malformed_tokenizers
from made.models import toy_checkpoint
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.screening.charsmap import is_sound
from psomerge.screening.tokenizer_json import doubt_about


def model(folder: Path, **files: object) -> Path:
    """A checkpoint with further files, `__` for a dot in their names; whatever is no text is written as JSON."""
    toy_checkpoint(folder, {"a.weight": torch.ones(2)})
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def normalizer(*steps: dict) -> dict:
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


def replace(pattern: dict, content: str) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def inside(depth: int) -> dict:
    content: dict = {"auto_map": {}}
    for _ in range(depth):
        content = {"x": [content]}
    return content


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "remote code far inside": ({"tokenizer_config__json": inside(20)}, "asks for remote code"),
    "settings nested too deeply": ({"tokenizer_config__json": inside(60)}, "nested more than 100 deep"),
    "versions of the tokenizer elsewhere": (
        {"tokenizer_config__json": {"fast_tokenizer_files": ["../x/tokenizer.json"]}},
        "fast_tokenizer_files is .* points outside",
    ),
    "versions of the tokenizer no list": (
        {"tokenizer_config__json": {"fast_tokenizer_files": 7}},
        "fast_tokenizer_files is 7",
    ),
    "arguments of the tokenizer's class": ({"tokenizer_config__json": {"init_inputs": ["vocab"]}}, "init_inputs is"),
    "template a number": ({"tokenizer_config__json": {"chat_template": 7}}, "chat_template is 7, expected a text"),
    "template a list of numbers": ({"tokenizer_config__json": {"chat_template": [7]}}, "chat_template is"),
    "template without a text": (
        {"tokenizer_config__json": {"chat_template": [{"name": "default"}]}},
        "chat_template is",
    ),
    "template too long": ({"chat_template__jinja": "x" * (2**20 + 1)}, "expected at most 1048576 bytes"),
    "template too long in the settings": (
        {"tokenizer_config__json": {"chat_template": "x" * (2**20 + 1)}},
        "expected a text of at most 1048576",
    ),
    "end of text a name": (
        {"generation_config__json": {"eos_token_id": "<eos>"}},
        "eos_token_id is '<eos>', expected the number of a token",
    ),
    "end of text below 0": ({"generation_config__json": {"eos_token_id": [0, -2]}}, "eos_token_id is"),
    "end of text true": ({"generation_config__json": {"eos_token_id": True}}, "eos_token_id is True"),
    "generation config a list": ({"generation_config__json": []}, "generation_config.json: expected a JSON object"),
    "special tokens a list": ({"special_tokens_map__json": []}, "special_tokens_map.json: expected a JSON object"),
    "added tokens cut off": ({"added_tokens__json": "{"}, "added_tokens.json: not valid JSON"),
    "vocabulary twice": ({"vocab__json": '{"a": 1, "a": 2}'}, "vocab.json: not valid JSON: key 'a' stands there twice"),
    "SentencePiece model of nonsense": (
        {"tokenizer__model": "nonsense"},
        "tokenizer.model: expected a SentencePiece model",
    ),
    "SentencePiece model cut off": ({"spiece__model": "\n\x30cut off"}, "spiece.model: expected a SentencePiece model"),
    "SentencePiece model under another name": (
        {"source__spm": "nonsense"},
        "source.spm: expected a SentencePiece model",
    ),
    "SentencePiece model with a damaged table": (
        {"sentencepiece__bpe__model": "\n\x00\x1a\x06\x12\x04AAAA"},
        "sentencepiece.bpe.model: expected .*, found one that has a damaged table of replacements",
    ),
    "slow pattern of a tekken file": (
        {"tekken__json": {"config": {"pattern": r"(\w+)+!"}}},
        "tekken.json: the regular expression .* repeats a group",
    ),
    "tekken file without a pattern": ({"tekken__json": {"vocab": []}}, "tekken.json: expected config.pattern"),
    "remote code of a processor": (
        {"preprocessor_config__json": {"auto_map": {"AutoProcessor": "x.Y"}}},
        "preprocessor_config.json: asks for remote code",
    ),
    "processor cut off": ({"processor_config__json": "{"}, "processor_config.json: not valid JSON"),
    "template of a processor a number": ({"chat_template__json": {"chat_template": 7}}, "chat_template is 7"),
    "tokenizer for some versions only": (
        {"tokenizer_config__json": {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]}},
        "fast_tokenizer_files names 'tokenizer.4.0.0.json'.*save it anew",
    ),
    "millions of lists": (
        {"tokenizer__json": '{"a":[' + "[]," * 2_000_000 + "0]}"},
        "more than 2000000 objects and lists",
    ),
    "slow pattern": (
        {"tokenizer__json": {"pre_tokenizer": {"pattern": {"Regex": r"(\w+)+!"}}}},
        r"the regular expression .* of its pre_tokenizer repeats a group that can match one text in several ways, and "
        r"is given up by tokenizers on \d+ characters that begin with 'a+'; correct it$",
    ),
    "slow pattern of the decoder": (
        {"tokenizer__json": {"decoder": {"decoders": [replace({"Regex": r"(a|a)*b"}, "")]}}},
        "of its decoder repeats a group",
    ),
    "text that grows": (
        {"tokenizer__json": normalizer(*[replace({"String": "a"}, "aa")] * 7)},
        "makes a text up to 128 times as long",
    ),
    "text that grows between letters": (
        {"tokenizer__json": normalizer(replace({"String": ""}, "x" * 60))},
        "makes a text up to 120 times",
    ),
    "tokens with every text": (
        {"tokenizer__json": {"post_processor": {"special_tokens": {"x": {"ids": [0] * 101}}}}},
        "adds more than 100 tokens",
    ),
    "damaged replacements": (
        {"tokenizer__json": normalizer({"type": "Precompiled", "precompiled_charsmap": "AAAA"})},
        "precompiled_charsmap. is damaged",
    ),
    "absurd number of layers": (
        {"config__json": {"num_hidden_layers": 10**9}},
        "num_hidden_layers is 1000000000, expected a whole number from 0 to 10000",
    ),
    "absurd vocabulary inside": (
        {"config__json": {"text_config": {"vocab_size": 10**12}}},
        "text_config.vocab_size is 1000000000000, expected",
    ),
    "size below 0": ({"config__json": {"hidden_size": -1}}, "hidden_size is -1, expected a whole number"),
    "size a text": ({"config__json": {"hidden_size": "64"}}, "hidden_size is '64', expected a whole number"),
    "number of 65 bits": ({"config__json": {"anything": [2**64]}}, "expected whole numbers of at most 64 bits"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.heavy if "slow" in case else ()) for case in REFUSED]
)
def test_a_companion_that_could_do_harm_is_refused_when_the_checkpoint_is_opened(case: str, tmp_path: Path) -> None:
    files, phrase = REFUSED[case]
    if "config__json" in files:
        files = {"config__json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | files["config__json"]}  # pyright: ignore
    with pytest.raises(ArtefactError, match=phrase) as caught:
        open_checkpoint(model(tmp_path / "expert", **files))
    assert str(caught.value).startswith(str(tmp_path / "expert"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")], ids=["FIFO", "link"])
def test_the_folder_of_further_chat_templates_holds_regular_files_only(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    folder = model(tmp_path / "expert")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")
    assert open_checkpoint(folder)
    make(folder / "additional_chat_templates" / "tool_use.jinja")
    with pytest.raises(ArtefactError, match="regular files only"):
        open_checkpoint(folder)


def test_a_tokenizer_that_was_found_sound_is_not_read_again_but_a_changed_one_is(tmp_path: Path) -> None:
    folder = model(tmp_path / "expert", tokenizer__json={"model": {"vocab": {"here": 1}}})
    open_checkpoint(folder)
    open_checkpoint(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ArtefactError, match="not valid JSON"):
        open_checkpoint(folder)


def test_a_tokenizer_of_the_largest_size_in_use_is_looked_at_in_seconds(tmp_path: Path) -> None:
    # As large as the largest that are published: a vocabulary of 262,144 tokens, and 515,000 merges as pairs.
    vocabulary = {f"token{number:06d}": number for number in range(262_144)}
    merges = [[f"t{number % 1000:03d}", f"oken{number % 997}"] for number in range(515_000)]
    folder = model(
        tmp_path / "expert", tokenizer__json=json.dumps({"model": {"vocab": vocabulary, "merges": merges}}, indent=1)
    )
    start = time.process_time()
    open_checkpoint(folder)
    assert time.process_time() - start < 8


STRANGE = (
    r"(a)\1",
    r"(?<x>a)\k<x>",
    r"(?<x>a\g<x>?)",
    r"(?(1)a|b)",
    r"(?#c)a",
    r"(?x: a # b)",
    r"(?~a)",
    "a" * 10_001,
    r"(?:a{101})",
    "a{0,5000}",
    "a*b*c*d*e",
    "[a",
)
SOUND = (
    *(
        r"(\d{3})+",
        r"(?>a+)+",
        r"(?:ab)+",
        r"(a+)?b",
        r"(?i:'s|'t)?",
        r"a*b*c*",
        r"a*+b*+c*+d*+e*+",
        r"\(a+\)+",
        r"[(a+)+]+",
        r"[^\]\[)]+\)*",
        r"(?<!a)b(?=c+)",
    ),
    *(r"(?:a|b){1}", r"x{2,3}|y*z*|\p{L}+\p{N}*", r"[[:alpha:]&&[^a]]+", r"\p{Script=Han}+", r" {2,}"),
)


@pytest.mark.parametrize("pattern", [*malformed_tokenizers.SLOW, r"(a?){50}b"])
def test_a_pattern_that_can_go_back_in_exponentially_many_ways_is_doubted(pattern: str) -> None:
    assert doubt_about(pattern)


@pytest.mark.parametrize("pattern", STRANGE)
def test_a_pattern_that_cannot_be_judged_is_doubted(pattern: str) -> None:
    assert doubt_about(pattern)


@pytest.mark.parametrize("pattern", SOUND)
def test_a_pattern_with_one_way_through_is_not_doubted(pattern: str) -> None:
    assert doubt_about(pattern) == ""


def test_the_slow_patterns_are_slow_indeed() -> None:
    # An independent engine that goes back as well: each letter more doubles the time of the first, and the sound one
    # does not notice.
    def seconds(pattern: str, letters: int) -> float:
        start = time.process_time()
        re.search(pattern, "a" * letters)
        return time.process_time() - start

    assert seconds(r"(\w+)+!", 22) > 4 * seconds(r"(\w+)+!", 18)
    assert seconds(r"(?:ab)+!", 22) < 0.01


def test_replacements_with_offsets_out_of_bounds_are_told_from_sound_ones() -> None:
    import base64
    import random

    from tokenizers import normalizers

    from made.wellformed import replacements

    table = replacements()
    assert is_sound(base64.b64encode(table).decode())
    assert not is_sound("?")
    assert not is_sound("")
    rng = random.Random(0)
    text = "ＡＢﬁ①ﾊﾟ½ e\u0301 ﷺ㍿" + "".join(map(chr, range(0x20, 0x3000, 7)))
    taken = 0
    for _ in range(100):
        damaged = bytearray(table)
        for _ in range(rng.choice((1, 1, 30))):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        if is_sound(base64.b64encode(damaged).decode()):
            taken += 1
            normalizers.Precompiled(bytes(damaged)).normalize_str(text)  # would panic, which is no Exception
    assert 0 < taken < 100
