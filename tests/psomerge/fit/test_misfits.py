"""Which experts fit a base, which values are numbers, which tokenizers are the same, what pins a folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.finite import check_finite
from psomerge.checkpoint.pins import file_digests, pin
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.fit.misfits import all_misfits, buffer_misfits, misfit, misfits
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source
from psomerge.tasks.experts.fitting import open_fitting
from psomerge.vocabulary.tokenizer import has_chat_template, tokenizers_differ

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def tensors(dtype: torch.dtype = BF16) -> dict[str, torch.Tensor]:
    return {"w": torch.ones(4, 2, dtype=dtype), "norm": torch.ones(2, dtype=dtype), "ids": torch.tensor([0, 1, 2])}


def opened(folder: Path, content: dict[str, torch.Tensor], **config: Any) -> Checkpoint:
    return open_checkpoint(toy_checkpoint(folder, content, config))


def found(
    tmp_path: Path, content: dict[str, torch.Tensor], base: dict[str, torch.Tensor] | None = None, **config: Any
) -> list[str]:
    return misfits(
        opened(tmp_path / "base", base or tensors(), hidden_size=2), opened(tmp_path / "tam", content, **config)
    )


def test_a_fine_tuned_copy_fits(tmp_path: Path) -> None:
    assert found(tmp_path, tensors() | {"w": torch.zeros(4, 2, dtype=BF16)}) == []


@pytest.mark.parametrize("dtype", [F16, F32])
def test_an_expert_in_another_dtype_fits_if_its_config_says_so(tmp_path: Path, dtype: torch.dtype) -> None:
    assert found(tmp_path, tensors(dtype)) == []  # toy_checkpoint writes the dtype into the config


def test_both_names_of_the_config_dtype_are_understood(tmp_path: Path) -> None:
    assert found(tmp_path, tensors(F16), torch_dtype=None, dtype="float16") == []


@pytest.mark.parametrize(
    ("stored", "said", "base"),
    [
        (F32, "bfloat16", BF16),  # as sharded trainers save
        (F32, "float16", BF16),
        (F32, None, BF16),
        (F16, "float32", BF16),
        (F16, None, BF16),
        (BF16, "float32", F32),
        (BF16, None, F16),
    ],
)
def test_the_header_is_the_truth_about_a_file_s_dtype(
    tmp_path: Path, stored: torch.dtype, said: str | None, base: torch.dtype
) -> None:
    assert found(tmp_path, tensors(stored), tensors(base), torch_dtype=said) == []


def test_one_wide_tensor_among_narrow_ones_is_what_its_header_says(tmp_path: Path) -> None:
    assert found(tmp_path, tensors() | {"norm": torch.ones(2, dtype=F32)}) == []


@pytest.mark.parametrize(("stored", "said"), [(F16, "bfloat16"), (BF16, "float16")])
def test_bytes_that_may_be_of_another_type_of_16_bits_are_refused_with_what_to_do(
    tmp_path: Path, stored: torch.dtype, said: str
) -> None:
    short = str(stored).removeprefix("torch.")
    assert found(tmp_path, tensors(stored), tensors(F32), torch_dtype=said)[0] == (
        f"expert \"tam\" has tensor 'norm' in {short}, but its config says {said} and the base has it in float32; "
        f"where the header is right, write dtype {short} into its config.json, else save it again"
    )


def test_one_tensor_in_the_other_type_of_16_bits_is_refused_where_the_config_says_nothing(tmp_path: Path) -> None:
    (line,) = found(tmp_path, tensors() | {"norm": torch.ones(2, dtype=F16)}, torch_dtype=None)
    assert "has tensor 'norm' in float16, but its other tensors are in bfloat16 and the base" in line


def test_a_wide_file_under_a_narrow_config_is_merged_by_its_own_values(tmp_path: Path) -> None:
    wide = tensors(F32) | {"w": torch.full((4, 2), 1 + 2**-10)}  # bfloat16 has no such number
    base, tam = opened(tmp_path / "base", tensors()), opened(tmp_path / "tam", wide, torch_dtype="bfloat16")
    basis = open_fitting({"base": base.folder, "tam": tam.folder}, None).basis
    recipe = METHODS["task_arithmetic"].recipe(Recipe(Source("base", "", ""), (Source("tam", "", ""),)), [16.0])
    # 1 + 16 * 2^-10 = 1.015625, which bfloat16 has; rounded first, the expert would be the base.
    assert basis.merged_tensor(recipe, "w").tolist() == [[1.015625] * 2] * 4


def test_a_tensor_in_the_dtype_that_the_base_uses_for_it_fits_whatever_the_config_says(tmp_path: Path) -> None:
    mixed = tensors() | {"norm": torch.ones(2, dtype=F32)}
    assert found(tmp_path, mixed, base=mixed) == []


def test_missing_extra_and_reshaped_tensors_are_all_listed(tmp_path: Path) -> None:
    assert found(
        tmp_path, {"w": torch.ones(4, 3, dtype=BF16), "ids": torch.tensor([0, 1, 2]), "more": torch.ones(1, dtype=BF16)}
    ) == [
        "expert \"tam\" has no tensor 'norm' that the base has",
        "expert \"tam\" has tensor 'w' of shape [4, 3], the base [4, 2]",
        "expert \"tam\" has tensor 'more' that the base has not",
    ]


@pytest.mark.parametrize("dtype", [torch.int32, BF16])
def test_an_integer_buffer_in_another_dtype_is_a_misfit(tmp_path: Path, dtype: torch.dtype) -> None:
    (line,) = found(tmp_path, tensors() | {"ids": torch.tensor([0, 1, 2], dtype=dtype)})
    assert "'ids'" in line


def test_other_values_in_an_integer_buffer_are_refused_by_those_who_read_weights(tmp_path: Path) -> None:
    base, tam = (
        opened(tmp_path / "base", tensors()),
        opened(tmp_path / "tam", tensors() | {"ids": torch.tensor([0, 1, 3])}),
    )
    assert misfits(base, tam) == []  # headers are alike
    with pytest.raises(ArtefactError, match="expert \"tam\" has other values in the int64 tensor 'ids' than the base"):
        open_fitting({"base": base.folder, "tam": tam.folder}, None)
    assert len(buffer_misfits(base, [base, tam])) == 1
    assert buffer_misfits(base, [base]) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("architectures", ["MistralForCausalLM"]), ("model_type", "mistral"), ("hidden_size", 3)],
    ids=["architectures", "model_type", "shape field"],
)
def test_another_architecture_is_a_misfit_even_with_equal_shapes(tmp_path: Path, key: str, value: object) -> None:
    (line,) = found(tmp_path, tensors(), **{key: value})
    assert line.startswith(f'expert "tam" has {key} {value!r}')


def test_a_shape_field_inside_a_section_counts(tmp_path: Path) -> None:
    base = opened(tmp_path / "base", tensors(), text_config={"num_attention_heads": 4})
    (line,) = misfits(base, opened(tmp_path / "tam", tensors(), text_config={"num_attention_heads": 8}))
    assert "text_config.num_attention_heads 8" in line


def test_a_field_that_one_config_leaves_out_is_no_misfit(tmp_path: Path) -> None:
    assert found(tmp_path, tensors(), head_dim=64) == []


def test_the_error_names_every_expert_that_does_not_fit_on_a_line_and_counts_what_it_cuts(tmp_path: Path) -> None:
    base = opened(tmp_path / "base", {f"w{i}": torch.ones(1) for i in range(20)})
    empty = opened(tmp_path / "empty", {"w0": torch.ones(1)})  # 19 tensors missing
    other = opened(tmp_path / "other", {f"w{i}": torch.ones(2 if i == 3 else 1) for i in range(20)})
    text = str(misfit(all_misfits(base, [base, empty, other]), base.folder))
    assert '"empty" has 11 more misfits' in text  # 19 of which 8 are listed
    assert "expert \"other\" has tensor 'w3' of shape [2], the base [1]" in text
    lines = text.splitlines()
    assert len(lines) == 8 + 1 + 1 + 1  # those of the one, how many more, that of the other, what to do
    assert lines[-1] == f"merge only checkpoints fine-tuned from one base ({base.folder})"
    assert len(misfits(base, empty)) == 19


def test_experts_that_fit_raise_nothing(tmp_path: Path) -> None:
    base = opened(tmp_path / "base", tensors())
    assert all_misfits(base, [base, base]) == []


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 2**15, 2**15 + 77, -1])  # chunks hold 2**15 elements
def test_a_value_that_is_no_number_is_found_in_every_chunk_and_its_tensor_named(
    tmp_path: Path, dtype: torch.dtype, value: float, place: int
) -> None:
    broken = torch.ones(3 * 2**15 + 5, dtype=dtype)
    broken[place] = value
    checkpoint = opened(tmp_path / "tam", {"fine": torch.ones(2, dtype=dtype), "broken": broken})
    with pytest.raises(
        ArtefactError, match=r'"tam" .*model.safetensors.*: tensor .broken. holds 1 values that are NaN or infinite'
    ):
        check_finite(checkpoint)


def test_the_largest_numbers_integers_and_empty_tensors_are_finite(tmp_path: Path) -> None:
    content = {
        "w": torch.tensor([torch.finfo(BF16).max, -torch.finfo(BF16).max, 0.0]).to(BF16),
        "ids": torch.tensor([2**62]),
        "none": torch.empty(0, 3),
    }
    check_finite(opened(tmp_path / "base", content))


def with_tokenizer(folder: Path, content: dict | None, **files: str) -> Checkpoint:
    toy_checkpoint(folder, {"w": torch.ones(1)})
    if content is not None:
        (folder / "tokenizer.json").write_text(json.dumps(content))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return open_checkpoint(folder)


BPE = {
    "version": "1.0",
    "padding": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "added_tokens": [],
}


IDLE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
"""As transformers 5 writes it where version 4 wrote nothing."""


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({}, False),
        ({"padding": {"strategy": "BatchLongest"}}, False),
        ({"model": BPE["model"] | {"merges": [["a", "b"]]}}, False),
        ({"model": BPE["model"] | {"ignore_merges": False}}, False),
        ({"model": BPE["model"] | {"ignore_merges": True}}, True),
        ({"model": BPE["model"] | {"vocab": {"b": 0, "a": 1, "ab": 2}}}, True),
        ({"model": BPE["model"] | {"continuing_subword_prefix": "", "end_of_word_suffix": ""}}, False),
        ({"model": BPE["model"] | {"unk_token": "a"}}, True),
        ({"post_processor": IDLE}, False),
        ({"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, IDLE]}}, False),
        ({"post_processor": IDLE | {"single": [{"SpecialToken": {"id": "a", "type_id": 0}}, *IDLE["single"]]}}, True),
        ({"added_tokens": [{"id": 3, "content": "<tool>"}]}, False),  # a merged tokenizer has it
        ({"added_tokens": [{"id": 3, "content": "<tool>"}, {"id": 2, "content": "ab"}]}, False),
    ],
)
def test_tokenizers_differ_where_they_cut_text_differently(tmp_path: Path, change: dict, differ: bool) -> None:
    a, b = with_tokenizer(tmp_path / "a", BPE), with_tokenizer(tmp_path / "b", BPE | change)
    assert tokenizers_differ(a, b) is differ
    assert tokenizers_differ(b, a) is differ


def test_a_token_that_both_added_must_be_found_in_one_way(tmp_path: Path) -> None:
    a, b = (
        with_tokenizer(tmp_path / name, BPE | {"added_tokens": [{"id": 3, "content": "<tool>"} | flags]})
        for name, flags in (("a", {}), ("b", {"lstrip": True}))
    )
    assert tokenizers_differ(a, b)


def test_an_expert_without_tokenizer_differs_from_none(tmp_path: Path) -> None:
    assert not tokenizers_differ(with_tokenizer(tmp_path / "a", BPE), with_tokenizer(tmp_path / "b", None))


def test_tokenizers_of_separate_files_are_compared_by_them(tmp_path: Path) -> None:
    a, b = (
        with_tokenizer(tmp_path / name, None, vocab__json="{}", merges__txt=text)
        for name, text in (("a", "x y"), ("b", "y x"))
    )
    assert tokenizers_differ(a, b)
    assert not tokenizers_differ(a, a)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"tokenizer\.json: not valid JSON"):
        with_tokenizer(tmp_path / "b", None, tokenizer__json="{")


def test_a_chat_template_is_found_in_both_places(tmp_path: Path) -> None:
    assert has_chat_template(with_tokenizer(tmp_path / "a", BPE, chat_template__jinja="{{ messages }}"))
    assert has_chat_template(
        with_tokenizer(tmp_path / "b", BPE, tokenizer_config__json='{"chat_template": "{{ messages }}"}')
    )
    assert not has_chat_template(with_tokenizer(tmp_path / "c", BPE, tokenizer_config__json='{"eos_token": "x"}'))


def test_digests_are_sha256_of_the_allowed_files_only(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "base")
    (folder / "recipe.json").write_text("{}")
    (folder / "README.md").write_text("not ours")
    (folder / "evil.py").write_text("not ours")
    digests = file_digests(folder)
    assert list(digests) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert digests == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in digests}


def test_a_pin_changes_with_a_single_bit_and_not_with_the_place(tmp_path: Path) -> None:
    folder = toy_checkpoint(tmp_path / "a", tensors())
    first = pin(folder, "tam", "hf://org/tam@main")
    assert (first.name, first.source) == ("tam", "hf://org/tam@main")
    assert len(first.revision) == 40
    assert first.files == file_digests(folder)
    folder.rename(tmp_path / "b")
    assert pin(tmp_path / "b", "tam", "hf://org/tam@main") == first
    weights = tmp_path / "b" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert pin(tmp_path / "b", "tam", "hf://org/tam@main").revision != first.revision


def test_a_link_is_not_digested(tmp_path: Path) -> None:
    folder = toy_checkpoint(tmp_path / "a", tensors())
    (folder / "vocab.json").symlink_to("/etc/passwd")
    with pytest.raises(ArtefactError, match="symbolic link"):
        file_digests(folder)
