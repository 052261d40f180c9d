"""All that keeps experts from a merge is told at once; what legitimate instruction-tuned models change is a warning,
and fine-tunes raise no alarm."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.families import FAMILIES, GEMMA3, LLAMA3, MISTRAL, QWEN25, edit, edit_tokens, member
from made.models import tiny_llama, toy_checkpoint
from made.tokenizers import tokenizer_model, without_tokenizer
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.fit.misfits import all_misfits, misfits
from psomerge.fit.warning import FitWarning
from psomerge.tasks.experts.check import Checked, check
from psomerge.tasks.experts.fitting import choose_tokenizer
from psomerge.tasks.experts.pieces import read_pieces
from runs.command_line import psomerge

pytestmark = pytest.mark.heavy


def pair(folder: Path, family: dict[str, Any] = LLAMA3, **changes: Any) -> dict[str, Path]:
    """Base and one expert that says what the base says, but for `changes` of its config."""
    return {
        "base": member(folder / "base", family, "base"),
        "tam": member(folder / "tam", family, "base", seed=1, **changes),
    }


def lines(folders: dict[str, Path]) -> list[str]:
    return misfits(*(open_checkpoint(folder, name) for name, folder in folders.items()))


def warned(checked: Checked) -> dict[str, FitWarning]:
    return {warning.what: warning for warning in checked.warnings}


# Pairs as they are published


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_s_instruct_fits_its_base_and_brings_its_template(tmp_path: Path, family: str) -> None:
    folders = {
        "base": member(tmp_path / "base", FAMILIES[family], "base"),
        "chat": member(tmp_path / "chat", FAMILIES[family], "instruct", seed=1),
    }
    checked = check(folders, None)
    # Qwen's base has a template, too: then the base's is used unless the config says otherwise.
    assert checked.tokenizer_from == ("base" if family == "qwen2.5" else "chat")
    expected = {"qwen2.5": ["chat template", "eos token", "generation config", "max_position_embeddings"]}.get(
        family, []
    )
    assert list(warned(checked)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_that_is_chosen_over_its_instruct_is_told_of(tmp_path: Path, family: str) -> None:
    folders = {
        "base": member(tmp_path / "base", FAMILIES[family], "base"),
        "chat": member(tmp_path / "chat", FAMILIES[family], "instruct", seed=1),
    }
    found = warned(check(folders, "base"))
    assert found["chat template"].expert == "chat"
    assert 'tokenizer_from "base" decides' in found["chat template"].advice
    if family != "mistral":  # whose instruct ends its texts as the base does
        assert "eos token" in found


def test_an_eos_token_is_told_by_name_and_id(tmp_path: Path) -> None:
    folders = {
        "base": member(tmp_path / "base", LLAMA3, "base"),
        "chat": member(tmp_path / "chat", LLAMA3, "instruct", seed=1),
    }
    found = warned(check(folders, "base"))
    assert (found["eos token"].expected, found["eos token"].found) == (
        "'<|end_of_text|>' (id 6)",
        "'<|eot_id|>' (id 6, 8)",
    )
    assert found["generation config"].found == "do_sample True, temperature 0.6, top_p 0.9"
    assert "bos token" not in found


def test_a_longer_context_is_a_warning(tmp_path: Path) -> None:
    (warning,) = check(pair(tmp_path, max_position_embeddings=32768), None).warnings
    assert (warning.what, warning.expected, warning.found) == ("max_position_embeddings", "8192", "32768")
    assert "longer" in warning.advice


# Settings that change what a model computes


@pytest.mark.parametrize(
    ("family", "changes", "key", "values"),
    [
        (LLAMA3, {"rope_theta": 10000.0}, "rope.rope_theta", ("10000.0", "500000.0")),
        (LLAMA3, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope.rope_type", ("'llama3'", "'default'")),
        (LLAMA3, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope.rope_type", ("'linear'", "'default'")),
        (
            LLAMA3,
            {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "rope.rope_theta",
            ("10000.0", "500000.0"),
        ),
        (GEMMA3, {"rope_local_base_freq": 5e3}, "rope.sliding_attention.rope_theta", ("5000.0", "10000.0")),
        (MISTRAL, {"sliding_window": 4096}, "sliding_window", ("4096", "none")),
        (QWEN25, {"use_sliding_window": True}, "sliding_window", ("131072", "none")),
        (LLAMA3, {"rms_norm_eps": 1e-06}, "rms_norm_eps", ("1e-06", "1e-05")),
        (LLAMA3, {"hidden_act": "gelu"}, "hidden_act", ("'gelu'", "'silu'")),
        (GEMMA3, {"query_pre_attn_scalar": 168}, "query_pre_attn_scalar", ("168", "256")),
        (GEMMA3, {"sliding_window_pattern": 5}, "sliding_window_pattern", ("5", "6")),
    ],
)
def test_a_setting_that_changes_what_is_computed_is_refused_by_name(
    tmp_path: Path, family: dict[str, Any], changes: dict[str, Any], key: str, values: tuple[str, str]
) -> None:
    (line,) = lines(pair(tmp_path, family, **changes))
    assert line.startswith(
        f'expert "tam" has {key} {values[0]} in its config.json, the base {values[1]}; where the expert was trained '
        "with the base"
    )


def test_a_scaled_rope_of_both_is_compared_by_every_parameter(tmp_path: Path) -> None:
    scaled = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    base = member(tmp_path / "base", LLAMA3, "base", rope_scaling=scaled)
    same = member(tmp_path / "same", LLAMA3, "base", rope_scaling={"type": "yarn", "factor": 4})  # the older spelling
    other = member(tmp_path / "other", LLAMA3, "base", rope_scaling=scaled | {"factor": 8.0})
    assert lines({"base": base, "same": same}) == []
    (line,) = lines({"base": base, "other": other})
    assert "rope.factor 8.0" in line


@pytest.mark.parametrize("key", ["rms_norm_eps", "hidden_act", "rope_theta"])
def test_a_default_that_one_config_leaves_out_is_no_conflict(tmp_path: Path, key: str) -> None:
    folders = pair(tmp_path)
    content = json.loads((folders["tam"] / "config.json").read_text())
    del content[key]
    (folders["tam"] / "config.json").write_text(json.dumps(content))
    assert lines(folders) == []


@pytest.mark.parametrize(
    ("family", "key", "said"),
    [
        (LLAMA3, "rope_theta", "rope.rope_theta 10000.0 (as its class has it) in its config.json, the base 500000.0"),
        (LLAMA3, "rms_norm_eps", "rms_norm_eps 1e-06 (as its class has it) in its config.json, the base 1e-05"),
        (
            GEMMA3,
            "query_pre_attn_scalar",
            "query_pre_attn_scalar 256 (as its class has it) in its config.json, the base 168",
        ),
    ],
)
def test_what_a_config_leaves_to_its_class_is_held_against_the_base(
    tmp_path: Path, family: dict[str, Any], key: str, said: str
) -> None:
    folders = pair(tmp_path, family)
    for folder in folders.values():
        edit(
            folder, "config.json", num_attention_heads=2, **({"query_pre_attn_scalar": 168} if family is GEMMA3 else {})
        )
    content = json.loads((folders["tam"] / "config.json").read_text())
    del content[key]
    (folders["tam"] / "config.json").write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=re.escape(f'expert "tam" has {said}')):
        check(folders, None)
    folders = {"base": folders["tam"], "tam": folders["base"]}
    with pytest.raises(ArtefactError, match=re.escape("(as its class has it); where the expert was trained")):
        check(folders, None)


def test_what_a_config_leaves_to_its_class_may_be_what_the_base_says(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for folder in folders.values():
        edit(folder, "config.json", num_attention_heads=2, rms_norm_eps=1e-06)
    content = json.loads((folders["tam"] / "config.json").read_text())
    del content["rms_norm_eps"], content["hidden_act"]
    (folders["tam"] / "config.json").write_text(json.dumps(content))
    assert check(folders, None).warnings == ()


LINEAR = {"rope_type": "linear", "factor": 4.0}
DEFAULT = {"rope_type": "default", "rope_theta": 500000.0}


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        (
            LLAMA3,
            {"rope_scaling": LINEAR, "rope_parameters": DEFAULT},
            "rope_parameters.rope_type 'default' and rope",
        ),
        (
            LLAMA3,
            {"rope_parameters": DEFAULT | {"rope_theta": 1e4}},
            "rope_parameters.rope_theta 10000.0 and rope",
        ),
        (LLAMA3, {"rope_scaling": LINEAR | {"type": "yarn"}}, "rope_scaling.rope_type 'linear' and rope_scaling.type"),
        (LLAMA3, {"rotary_emb_base": 1e4}, "rope_theta 500000.0 and rotary_emb_base 10000.0"),
        (LLAMA3, {"rotary_pct": 0.25, "partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 and rotary_pct 0.25"),
        (
            GEMMA3,
            {"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 5e3}}},
            "rope_parameters.sliding_attention.rope_theta 5000.0 and rope_local_base_freq 10000.0",
        ),
        (
            GEMMA3,
            {"rope_scaling": LINEAR, "rope_parameters": {"full_attention": {"rope_type": "default"}}},
            "rope_parameters.full_attention.rope_type 'default' and rope_scaling.rope_type 'linear'",
        ),
        (
            LLAMA3,
            {"text_config": {"rope_scaling": LINEAR, "rope_parameters": DEFAULT}},
            "in text_config rope_parameters.rope_type 'default'",
        ),
    ],
)
def test_a_rope_said_twice_in_two_ways_is_refused_in_any_model(
    tmp_path: Path, family: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    folders = pair(tmp_path, family, **changes)
    for name, one in (("tam", folders), ("base", {"base": folders["tam"]})):
        with pytest.raises(ArtefactError, match=f'^"{name}": ' if len(one) > 1 else "config.json: says") as caught:
            check(one, None)
        assert f"{folders['tam'] / 'config.json'}: says {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        (LLAMA3, {"rope_parameters": DEFAULT}),  # as versions between both wrote
        (LLAMA3, {"rope_scaling": {"rope_type": "default", "type": "mrope"}}),
        (LLAMA3, {"rope_scaling": {}, "rope_parameters": DEFAULT}),
        (
            GEMMA3,
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                }
            },
        ),
    ],
)
def test_a_rope_said_twice_in_one_way_is_no_fault(
    tmp_path: Path, family: dict[str, Any], changes: dict[str, Any]
) -> None:
    folders = pair(tmp_path, family, **changes)
    for folder in folders.values():
        edit(folder, "config.json", num_attention_heads=2)
    assert check(folders, None).warnings == ()


def test_asking_the_library_leaves_a_config_as_it_was_read(tmp_path: Path) -> None:
    folders = pair(tmp_path, rope_scaling={"type": "linear", "factor": 2.0})
    edit(folders["base"], "config.json", rope_scaling={"type": "linear", "factor": 2.0}, num_attention_heads=2)
    edit(folders["tam"], "config.json", num_attention_heads=2, hidden_act=None)  # so that it is asked
    # the library writes rope_theta and rope_type into what it is given
    assert check(folders, None).basis.base.config["rope_scaling"] == {"type": "linear", "factor": 2.0}


def test_a_config_means_what_the_library_makes_of_it(tmp_path: Path) -> None:
    # Of 26 layers every sixth, or every 26th, or none is without a window: the pattern makes the layers' types.
    folders = pair(tmp_path, GEMMA3)
    for name, pattern in (("base", 6), ("tam", 26)):
        edit(folders[name], "config.json", num_attention_heads=2, num_hidden_layers=4, sliding_window_pattern=pattern)
    assert check(folders, None).warnings == ()  # all four have a window in both
    edit(folders["tam"], "config.json", sliding_window_pattern=2)
    with pytest.raises(ArtefactError, match=r'expert "tam" has layer_types \[.*\] \(as its class has it\)'):
        check(folders, None)


def test_a_null_that_switches_something_off_is_held_against_the_base(tmp_path: Path) -> None:
    folders = pair(tmp_path, GEMMA3)
    for folder, value in ((folders["base"], 50.0), (folders["tam"], None)):
        edit(folder, "config.json", num_attention_heads=2, final_logit_softcapping=value)
    with pytest.raises(ArtefactError, match=r'"tam" has final_logit_softcapping none in its config.json, the base 50'):
        check(folders, None)


def test_a_class_that_the_library_has_not_is_compared_by_what_is_said(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for folder in folders.values():
        edit(folder, "config.json", model_type="unheard_of")
    content = json.loads((folders["tam"] / "config.json").read_text())
    del content["rms_norm_eps"]
    (folders["tam"] / "config.json").write_text(json.dumps(content))
    assert check(folders, None).warnings == ()


def test_a_setting_in_a_section_is_named_with_it(tmp_path: Path) -> None:
    (line,) = lines(
        {
            name: toy_checkpoint(
                tmp_path / name, {"w": torch.ones(1)}, {"text_config": {"final_logit_softcapping": value}}
            )
            for name, value in (("base", 30.0), ("tam", 50.0))
        }
    )
    assert "text_config.final_logit_softcapping 50.0" in line


# Tokens

VOCABULARY = {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "c": 4}
ADDED = {token: number for number, token in enumerate(LLAMA3["tokens"], 5)}


def test_a_token_with_another_id_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(folders["tam"], VOCABULARY | {"a": 2, "b": 1})
    (line,) = lines(folders)
    assert "token 'a' has id 2, in the base 1, token 'b' has id 1, in the base 2" in line
    assert "bring its tokens to the base's ids" in line


def test_an_id_with_another_token_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(folders["tam"], {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "d": 4})
    (line,) = lines(folders)
    assert "id 4 is token 'd', in the base 'c'" in line


def test_a_row_that_two_tokens_share_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(folders["tam"], added=ADDED | {"<tool>": 3})
    (line,) = lines(folders)
    assert "id 3 is both " in line
    assert "'<tool>'" in line
    assert "'ab'" in line


def test_another_vocabulary_is_told_in_one_line_with_few_examples(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(
        folders["tam"],
        {word: 4 - number for word, number in VOCABULARY.items()},
        {token: 13 - number for token, number in ADDED.items()},
    )
    (line,) = lines(folders)
    assert (
        "has another vocabulary: 1 of 9 tokens have the base's ids" in line
    )  # 'b' stays in the middle; of the added ones, 5 to 8, none does
    assert "(4 in all)" in line


@pytest.mark.parametrize(
    "placeholder", ["<|reserved_special_token_0|>", "<unused0>", "[control_8]", "<|placeholder1|>"]
)
def test_a_row_that_the_base_keeps_free_may_be_named_by_an_expert(tmp_path: Path, placeholder: str) -> None:
    base, chat = (member(tmp_path / name, LLAMA3, "base", seed=seed) for seed, name in enumerate(("base", "chat")))
    edit_tokens(
        base,
        added=ADDED | {}
        if placeholder in ADDED
        else {(placeholder if number == 7 else token): number for token, number in ADDED.items()},
    )
    edit_tokens(chat, added={("<|im_start|>" if number == 7 else token): number for token, number in ADDED.items()})
    folders = {"base": base, "chat": chat}
    assert lines(folders) == []
    for chosen in (None, "base", "chat"):
        assert "tokens of its own" not in warned(check(folders, chosen))


def test_an_extended_vocabulary_fits(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    extended = LLAMA3 | {"tokens": [*LLAMA3["tokens"], "<|im_start|>", "<|im_end|>"]}
    folders["tam"] = member(tmp_path / "chat", extended, "base", seed=2)
    assert lines(folders) == []
    (folders["tam"] / "tokenizer.json").unlink()
    edit(folders["tam"], "tokenizer_config.json", added_tokens_decoder={})
    (line,) = lines(folders)
    said = "has 11 rows in its embedding, the base 9, and no vocabulary tells which token each of them is; put the "
    assert f"{said}tokenizer of the expert into its folder" in line
    (folders["base"] / "tokenizer.json").rename(folders["tam"] / "tokenizer.json")
    (line,) = lines(folders)
    assert f"{said}tokenizer of the base into its folder" in line


def test_padding_rows_fit_and_a_config_that_does_not_say_them_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path, vocab_size=16)
    (line,) = lines(folders)
    assert "has vocab_size 16 in its config.json, but 9 rows in its embedding" in line
    weights = load_file(folders["tam"] / "model.safetensors")
    weights["model.embed_tokens.weight"] = torch.cat([weights["model.embed_tokens.weight"], torch.zeros(7, 8)])
    save_file(weights, str(folders["tam"] / "model.safetensors"), metadata={"format": "pt"})
    assert lines(folders) == []


def test_a_token_past_the_embedding_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(folders["tam"], added=ADDED | {"[PAD]": 9})
    (line,) = lines(folders)
    assert "has tokens past the 9 rows of its embedding: '[PAD]' (id 9)" in line


def test_a_stop_id_past_the_embedding_is_refused(tmp_path: Path) -> None:
    (line,) = lines(pair(tmp_path, eos_token_id=[6, 9]))
    assert "has eos_token_id 9, expected less than the 9 rows" in line


def test_another_unk_token_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for name, token in (("base", "<unk>"), ("tam", "a")):
        edit(folders[name], "tokenizer_config.json", unk_token=token)
    (line,) = lines(folders)
    assert "has unk token 'a', the base '<unk>'" in line


def test_an_id_that_two_configs_name_differently_is_refused_where_no_vocabulary_tells(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for folder in folders.values():
        (folder / "tokenizer.json").unlink()
        edit(folder, "tokenizer_config.json", added_tokens_decoder={})
    assert lines(folders) == []
    (folders["base"] / "vocab.json").write_text("{}")  # not the same files any more, and nothing to compare
    edit(folders["tam"], "tokenizer_config.json", eos_token="<|im_end|>")
    (line,) = lines(folders)
    assert "has eos token '<|im_end|>' (id 6), the base '<|end_of_text|>' (id 6)" in line


def sentencepiece_model(folder: Path, sentence: str) -> None:
    from sentencepiece import SentencePieceTrainer

    folder.mkdir(exist_ok=True)
    text = folder / "text.txt"
    text.write_text("\n".join([sentence] * 20))
    SentencePieceTrainer.Train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=12, model_type="bpe", minloglevel=2
    )
    text.unlink()
    (folder / "tokenizer.vocab").unlink()


def test_vocabularies_of_sentencepiece_models_are_compared(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for name, sentence in (("base", "abc abd"), ("tam", "xyz xyw")):
        (folders[name] / "tokenizer.json").unlink()
        edit(folders[name], "tokenizer_config.json", added_tokens_decoder={})
        sentencepiece_model(folders[name], sentence)
    base, tam = (open_checkpoint(folder, name) for name, folder in folders.items())
    assert all_misfits(base, [base], read_pieces) == []
    assert re.search(r"is token '.*[wxyz]', in the base '.*[abcd]'", "; ".join(all_misfits(base, [tam], read_pieces)))


def test_a_damaged_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    (folders["tam"] / "tokenizer.json").unlink()
    (folders["tam"] / "tokenizer.model").write_bytes(b"\n\x30cut off")
    with pytest.raises(ArtefactError, match=r"tokenizer\.model: expected a SentencePiece model"):
        check(folders, None)


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    edit_tokens(folders["tam"], {"a": 1.5})  # type: ignore[dict-item]
    with pytest.raises(ArtefactError, match="expected a vocabulary of texts with whole-number ids"):
        check(folders, None)


def test_a_checkpoint_without_tokenizer_fits(tmp_path: Path) -> None:
    folders = pair(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folders["tam"] / file).unlink()
    assert lines(folders) == []
    assert check(folders, None).warnings == ()


# All at once


def test_everything_that_is_wrong_with_all_experts_is_told_on_a_line_each(tmp_path: Path) -> None:
    folders = pair(tmp_path, rms_norm_eps=1e-3)
    folders["cut"] = member(tmp_path / "cut", LLAMA3, "base", seed=2)
    weights = folders["cut"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    folders["gone"] = tmp_path / "gone"
    folders["moved"] = member(tmp_path / "moved", LLAMA3, "base", seed=3)
    edit_tokens(folders["moved"], VOCABULARY | {"a": 2, "b": 1})
    folders["inf"] = member(tmp_path / "inf", LLAMA3, "base", seed=4)
    values = load_file(folders["inf"] / "model.safetensors")
    values["model.layers.0.mlp.up_proj.weight"][3, 1] = float("inf")
    save_file(values, str(folders["inf"] / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ArtefactError) as caught:
        check(folders, None)
    text = str(caught.value)
    assert len(text.splitlines()) == 6  # a line each, and what to do
    for words in (
        'expert "tam" has rms_norm_eps 0.001',
        '"cut": ',
        '"gone": ',
        "no such folder",
        'expert "moved" gives tokens other ids',
        "up_proj.weight' holds 1 values",
    ):
        assert words in text


def test_values_of_all_experts_that_are_no_numbers_are_told_at_once(tmp_path: Path) -> None:
    folders = {
        name: member(tmp_path / name, LLAMA3, "base", seed=seed) for seed, name in enumerate(("base", "one", "two"))
    }
    for name, place in (("base", 0), ("two", 1)):
        values = load_file(folders[name] / "model.safetensors")
        values["model.embed_tokens.weight"][place] = float("nan")
        save_file(values, str(folders[name] / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ArtefactError) as caught:
        check(folders, None)
    text = str(caught.value)
    assert text.count("holds 8 values that are NaN or infinite") == 2
    assert '"base" (' in text
    assert '"two" (' in text
    assert '"one" (' not in text


def test_a_broken_base_is_told_with_the_broken_experts(tmp_path: Path) -> None:
    folders = {"base": tmp_path / "base", "one": tmp_path / "one", "two": member(tmp_path / "two", LLAMA3, "base")}
    with pytest.raises(ArtefactError, match=r'"base": .*\n"one": '):
        check(folders, None)


# Which tokenizer


def test_two_experts_with_templates_need_a_word_about_which(tmp_path: Path) -> None:
    base = open_checkpoint(member(tmp_path / "base", LLAMA3, "base"), "base")
    chats = [
        open_checkpoint(member(tmp_path / name, LLAMA3, "instruct", seed=seed), name)
        for seed, name in enumerate(("a", "b"), 1)
    ]
    with pytest.raises(ConfigError, match="a, b each bring a chat template"):
        choose_tokenizer(base, chats, None)
    assert choose_tokenizer(base, chats, "b") == "b"
    assert choose_tokenizer(base, chats[:1], None) == "a"


# The command line


def test_check_tells_warnings_as_text_and_as_json(tmp_path: Path) -> None:
    base, chat, plain = (
        member(tmp_path / name, LLAMA3, kind, seed=seed)
        for seed, (name, kind) in enumerate((("base", "base"), ("chat", "instruct"), ("plain", "base")))
    )
    edit(chat, "config.json", max_position_embeddings=65536)
    said = psomerge("check", chat, plain, "--base", base, home=tmp_path / "home")
    assert (said.code, said.err) == (0, "")
    told = (
        "max_position_embeddings: expected 8192, found 65536; it was made for a longer context; the merged model "
        "says what the base says"
    )
    assert said.out.splitlines() == [
        f"{chat}: sound, 2 tensors, fits the base",
        f'  warning: expert "{chat}": {told}',
        f"{plain}: sound, 2 tensors, fits the base",
    ]
    found = json.loads(psomerge("check", chat, plain, "--base", base, "--json", home=tmp_path / "home").out)
    assert [one["what"] for one in found[str(chat)]["warnings"]] == ["max_position_embeddings"]
    assert found[str(plain)] == {"verdict": "sound, 2 tensors, fits the base", "warnings": []}


def test_check_lists_what_is_wrong_with_all_models(tmp_path: Path) -> None:
    folders = pair(tmp_path, rms_norm_eps=1e-3)
    other = member(tmp_path / "other", LLAMA3, "base", hidden_act="gelu")
    said = psomerge(
        "check", folders["tam"], tmp_path / "gone", other, "--base", folders["base"], home=tmp_path / "home"
    )
    assert said.code == 3
    for words in ("rms_norm_eps 0.001", f"{tmp_path / 'gone'}: ", "hidden_act 'gelu'"):
        assert words in said.text


def test_tokens_of_others_are_merged_once_the_base_has_a_tokenizer_json(tmp_path: Path) -> None:
    """A SentencePiece model is given no tokens: those of the experts are left out, and said with the way out."""
    from sentencepiece import SentencePieceProcessor
    from transformers import AutoTokenizer

    folders = {name: tiny_llama(tmp_path / name, vocab=400) for name in ("base", "tam")}
    for folder in folders.values():
        without_tokenizer(folder)
        tokenizer_model(folder)
    pieces = SentencePieceProcessor(model_file=str(folders["base"] / "tokenizer.model")).get_piece_size()
    (folders["tam"] / "added_tokens.json").write_text(json.dumps({"<tool>": pieces}))
    lost = warned(check(folders, None))["tokens of its own"]
    assert lost.found == f"'<tool>' (id {pieces})"
    assert "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)" in lost.advice
    AutoTokenizer.from_pretrained(folders["base"]).save_pretrained(folders["base"])
    found = check(folders, None)
    assert "tokens of its own" not in warned(found)
    merged = json.loads(found.basis.named("base").edited["tokenizer.json"])
    assert [one["id"] for one in merged["added_tokens"] if one["content"] == "<tool>"] == [pieces]
