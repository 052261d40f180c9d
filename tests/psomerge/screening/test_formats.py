"""A checkpoint in a form that cannot be merged is refused with a command that makes a mergeable one of it, and the
command works."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.models import tiny_llama
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError

pytestmark = pytest.mark.heavy


def refusal(folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def quantised(folder: Path, **quantisation: object) -> Path:
    folder.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "quantization_config": quantisation}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(text: str, place: Path) -> Path:
    """Runs the command at the end of a refusal, as somebody would paste it into a shell."""
    command = re.search(r"python -c '.*'$", text)
    assert command
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command.group()],
        cwd=place,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    return place / "CONVERTED"


@pytest.mark.parametrize(
    "method", ["gptq", "awq", "aqlm", "hqq", "quanto", "torchao", "bitnet", "auto-round", "whatever"]
)
def test_where_nothing_turns_a_method_back_the_original_is_asked_for(tmp_path: Path, method: str) -> None:
    assert f"merge the checkpoint that it was quantised from; nothing turns {method} back" in refusal(
        quantised(tmp_path / "q", quant_method=method, bits=4)
    )


def test_a_quantisation_without_a_method_is_refused_too(tmp_path: Path) -> None:
    assert "nothing turns it back" in refusal(quantised(tmp_path / "q", bits=4))


def test_bitsandbytes_is_dequantised_by_transformers(tmp_path: Path) -> None:
    text = refusal(quantised(tmp_path / "q", quant_method="bitsandbytes", load_in_4bit=True))
    code = shlex.split(text.partition("convert: ")[2])[2]
    how = 'dtype="auto", output_loading_info=True, device_map="auto"'
    loading = f'm, i = t.AutoModelForCausalLM.from_pretrained("{tmp_path}/q", {how})'
    whole = 'assert not i["missing_keys"], i["missing_keys"]'
    assert code == f'import transformers as t; {loading}; {whole}; m.dequantize().save_pretrained("CONVERTED")'


def test_mxfp4_is_dequantised_while_it_is_loaded(tmp_path: Path) -> None:
    from transformers import Mxfp4Config

    assert "quantization_config=t.Mxfp4Config(dequantize=True)" in refusal(
        quantised(tmp_path / "q", quant_method="mxfp4")
    )
    assert Mxfp4Config(dequantize=True).quant_method == "mxfp4"


def test_pickled_weights_are_converted_by_the_command_that_their_refusal_gives(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "it's a model", layers=1)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    converted = run(refusal(folder), tmp_path)
    stored = load_file(converted / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in stored.items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }
    assert open_checkpoint(converted).tensors.keys() == tensors.keys()


def requantised(
    folder: Path, change: Callable[[str, torch.Tensor], dict[str, torch.Tensor]], **quantisation: object
) -> dict[str, torch.Tensor]:
    """Makes a tiny Llama in `folder` whose linear layers are stored as `change` gives them; returns the plain
    tensors."""
    tiny_llama(folder, layers=1, hidden=128)
    plain = load_file(folder / "model.safetensors")
    stored = {
        key: value
        for name, tensor in plain.items()
        for key, value in (change(name, tensor) if "proj" in name else {name: tensor}).items()
    }
    save_file(stored, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantisation}))
    return plain


def test_fp8_weights_are_converted_by_the_command_that_their_refusal_gives(tmp_path: Path) -> None:
    # One block of 128 x 128 has one factor; 2 is exact in every format.
    def change(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            name: tensor.to(torch.float8_e4m3fn),
            f"{name}_scale_inv": torch.full([-(-side // 128) for side in tensor.shape], 2.0),
        }

    settings = {"activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"}
    plain = requantised(tmp_path / "fp8", change, quant_method="fp8", **settings)
    converted = open_checkpoint(run(refusal(tmp_path / "fp8"), tmp_path))
    assert converted.tensors.keys() == plain.keys()
    for name in (name for name in plain if "proj" in name):
        assert torch.equal(converted.tensor(name).float(), 2 * plain[name].to(torch.float8_e4m3fn).float())


def test_compressed_tensors_are_converted_by_the_command_that_their_refusal_gives(tmp_path: Path) -> None:
    def change(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            name: tensor.to(torch.float8_e4m3fn),
            f"{name}_scale": torch.full((len(tensor), 1), 2.0, dtype=torch.bfloat16),
        }

    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel", "dynamic": False}
    settings = {"format": "float-quantized", "quantization_status": "compressed", "ignore": ["lm_head"]}
    settings["config_groups"] = {
        "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    }
    plain = requantised(tmp_path / "packed", change, quant_method="compressed-tensors", **settings)
    converted = open_checkpoint(run(refusal(tmp_path / "packed"), tmp_path))
    assert converted.tensors.keys() == plain.keys()
    for name in (name for name in plain if "proj" in name):
        assert torch.equal(converted.tensor(name).float(), 2 * plain[name].to(torch.float8_e4m3fn).float())


def test_gguf_is_refused_with_the_command_that_reads_it_whether_or_not_there_is_a_config(tmp_path: Path) -> None:
    for name in ("bare", "with config"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tiny-Q4_K_M.gguf").write_bytes(b"GGUF")
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    for name in ("bare", "with config"):
        code = shlex.split(refusal(tmp_path / name).partition("convert: ")[2])[2]
        file = f'"{tmp_path}/{name}"'
        how = 'gguf_file="tiny-Q4_K_M.gguf", quantization_config=t.GgufConfig(dequantize=True)'
        loading = f't.AutoModelForCausalLM.from_pretrained({file}, dtype="auto", output_loading_info=True, {how})'
        whole = 'assert not i["missing_keys"], i["missing_keys"]'
        assert f'm, i = {loading}; {whole}; m.save_pretrained("CONVERTED")' in code
        assert (
            f't.AutoTokenizer.from_pretrained({file}, gguf_file="tiny-Q4_K_M.gguf").save_pretrained("CONVERTED")'
            in code
        )
        compile(code, "command", "exec")


def test_gguf_beside_safetensors_is_left_alone(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "model", layers=1)
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    assert open_checkpoint(folder).tied
