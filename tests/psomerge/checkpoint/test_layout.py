"""An expert is read under its base's names, whichever layout it lies in; what has no partner stays told."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.layouts import LAYOUTS, in_two_layouts
from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.headers import checkpoint_of_headers
from psomerge.checkpoint.layout import LaidOut, laid_out
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.files.untrusted import listing
from psomerge.fit.misfits import all_misfits, misfits
from psomerge.merge.basis import open_basis
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source
from psomerge.tasks.experts.check import check

pytestmark = pytest.mark.heavy

SAFE = "model.safetensors"


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_model_in_the_other_layout_has_the_same_bits_under_the_base_s_names(tmp_path: Path, kind: str) -> None:
    # transformers wrote both: the one's file is what the other must be read as
    folders = in_two_layouts(tmp_path, kind)
    for ours, theirs in (folders, folders[::-1]):
        base, found = open_checkpoint(ours), laid_out(open_checkpoint(theirs), open_checkpoint(ours))
        assert isinstance(found, LaidOut)
        assert (found.taken, found.left_out) == ((), ())
        assert list(found.tensors) == list(base.tensors)
        for name in base.tensors:
            assert torch.equal(found.tensor(name), base.tensor(name)), name
            assert torch.equal(found.tensor(name, slice(1, 3)), base.tensor(name, slice(1, 3))), name
        assert misfits(base, open_checkpoint(theirs)) == []


@pytest.mark.parametrize(
    "wrapped",
    [
        "module.{0}",
        "_orig_mod.{0}",
        "_fsdp_wrapped_module.{0}",
        "base_model.model.{0}",
        "pretrained_model.{0}",
        "module._orig_mod.{0}",
    ],
)
def test_what_a_trainer_put_before_the_names_is_taken_off(tmp_path: Path, wrapped: str) -> None:
    base, expert = tiny_llama(tmp_path / "base"), tiny_llama(tmp_path / "tam", seed=1)
    stored = load_file(expert / SAFE)
    inside = {name.replace("layers.0.", "layers.0._checkpoint_wrapped_module."): one for name, one in stored.items()}
    for content in (stored, inside):
        save_file({wrapped.format(name): one for name, one in content.items()}, expert / SAFE, {"format": "pt"})
        found = laid_out(open_checkpoint(expert), open_checkpoint(base))
        assert misfits(open_checkpoint(base), open_checkpoint(expert)) == []
        assert found.tensors.keys() == stored.keys()
        assert all(torch.equal(found.tensor(name), one) for name, one in stored.items())
    (line,) = all_misfits(open_checkpoint(expert), [open_checkpoint(base)])
    assert "names tensors as a trainer wrapped them" in line


@pytest.mark.parametrize("kind", ["qwen3_moe", "qwen2_vl"])
def test_two_layouts_merge_to_the_bits_of_one(tmp_path: Path, kind: str) -> None:
    base, _ = in_two_layouts(tmp_path / "base", kind)
    expert, other = in_two_layouts(tmp_path / "expert", kind, seed=1)
    plain = Recipe(Source("base", "", ""), (Source("tam", "", ""),), drop_rate=0.5)
    for method, options in (("task_arithmetic", {}), ("ties", {"density": 0.4}), ("dare", {"drop_rate": 0.5})):
        recipe = METHODS[method].recipe(plain, [0.7], **options)
        made = [
            {name: tensor.clone() for name, tensor in open_basis({"base": base, "tam": one}).merged_tensors(recipe)}
            for one in (expert, other)
        ]
        assert made[0].keys() == load_file(base / SAFE).keys()
        assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_a_check_of_a_model_in_the_other_layout_raises_no_alarm(tmp_path: Path) -> None:
    base, _ = in_two_layouts(tmp_path / "base", "qwen3_moe")
    _, expert = in_two_layouts(tmp_path / "expert", "qwen3_moe", seed=1)
    told = {warning.what for warning in check({"base": base, "tam": expert}, None).warnings}
    # Another seed is another model, and none of these has a tokenizer.
    assert told <= {"perhaps not made from this base", "tokenizer"}


def test_of_headers_only_a_model_in_the_other_layout_fits_too(tmp_path: Path) -> None:
    published, inside = in_two_layouts(tmp_path, "qwen2_vl")
    files, head = listing(inside), {SAFE: (inside / SAFE).read_bytes()[: 2**16]}
    seen = checkpoint_of_headers(inside, "tam", files, head, open_checkpoint(published, "base"))
    assert isinstance(seen, LaidOut)
    assert misfits(seen.base, seen) == []


def opened(folder: Path, **tensors: torch.Tensor) -> Checkpoint:
    return open_checkpoint(toy_checkpoint(folder, {name.replace("__", "."): one for name, one in tensors.items()}))


def test_names_that_two_tensors_would_share_are_not_matched(tmp_path: Path) -> None:
    base = opened(tmp_path / "base", model__w=torch.ones(2))
    found = laid_out(opened(tmp_path / "tam", w=torch.ones(2), transformer__w=torch.zeros(2)), base)
    assert isinstance(found, LaidOut)
    assert (found.taken, found.left_out) == (("model.w",), ("transformer.w", "w"))


def test_names_that_match_and_shapes_that_do_not_are_misfits(tmp_path: Path) -> None:
    base, tam = opened(tmp_path / "base", model__w=torch.ones(2)), opened(tmp_path / "tam", w=torch.ones(3))
    assert misfits(base, tam) == [
        "expert \"tam\" has no tensor 'model.w' that the base has",
        "expert \"tam\" has tensor 'w' that the base has not",
    ]


def test_a_mixture_of_which_one_expert_is_missing_is_a_misfit(tmp_path: Path) -> None:
    published, inside = in_two_layouts(tmp_path, "qwen3_moe")
    content = load_file(published / SAFE)
    del content["model.layers.1.mlp.experts.3.up_proj.weight"]
    save_file(content, published / SAFE, metadata={"format": "pt"})
    lines = misfits(open_checkpoint(inside), open_checkpoint(published, "tam"))
    assert "expert \"tam\" has no tensor 'model.layers.1.mlp.experts.gate_up_proj' that the base has" in lines
    assert not any("layers.0" in line for line in lines)


def test_packed_experts_that_lie_the_other_way_are_not_cut(tmp_path: Path) -> None:
    published, inside = in_two_layouts(tmp_path, "qwen3_moe")  # gate_up_proj is square, (4, 64, 64); down_proj is not
    content = {
        name: tensor.transpose(1, 2).contiguous() if ".experts." in name else tensor
        for name, tensor in load_file(inside / SAFE).items()
    }
    save_file(content, inside / SAFE, metadata={"format": "pt"})
    (line,) = misfits(open_checkpoint(published), open_checkpoint(inside, "tam"))
    assert line.startswith('expert "tam" is the same model in another layout: it has ')


def test_a_layout_that_is_not_known_is_named_with_the_command_that_ends_it(tmp_path: Path) -> None:
    published, inside = in_two_layouts(tmp_path, "qwen3_moe")
    strange = {name.replace(".experts.", ".crowd."): tensor for name, tensor in load_file(inside / SAFE).items()}
    save_file(strange, inside / SAFE, metadata={"format": "pt"})
    (line,) = misfits(open_checkpoint(published), open_checkpoint(inside, "tam"))
    assert "as many values; save both again with one version of transformers, this one with: python -c " in line
    assert f't.Qwen3MoeForCausalLM.from_pretrained("{inside}", dtype="auto", ' in line
