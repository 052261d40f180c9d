"""Checkpoints in a form that cannot be merged: pickled, GGUF or quantised; refused with the command that makes a
mergeable one of it, where there is one."""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SAVE = 'm.save_pretrained("CONVERTED")'
_SAVE_PLAIN = 'm.save_pretrained("CONVERTED", save_original_format=False)'
"""Without the second argument the weights are quantised again when they are saved."""
_SAVE_WEIGHTS_ONLY = (
    'm.save_pretrained("CONVERTED", save_original_format=False, '
    'state_dict={n: w for n, w in m.state_dict().items() if not n.endswith(("_scale", "_shape", "_zero_point"))})'
)
"""The parameters of the quantisation stay in the model, and would be saved beside the weights that were made with
them."""
_DEQUANTISING: Mapping[str, tuple[str, str]] = {
    "bitsandbytes": ('device_map="auto"', 'm.dequantize().save_pretrained("CONVERTED")'),
    "fp8": ("quantization_config=t.FineGrainedFP8Config(dequantize=True)", _SAVE_PLAIN),
    "mxfp4": ("quantization_config=t.Mxfp4Config(dequantize=True)", _SAVE_PLAIN),
    "compressed-tensors": ("quantization_config=t.CompressedTensorsConfig(dequantize=True)", _SAVE_WEIGHTS_ONLY),
}
"""Methods whose weights transformers turns back: how it loads and saves them. What rounding took away does not come
back."""


def refuse_other_formats(folder: Path, files: Iterable[str]) -> None:
    """Raises ArtefactError with the command that converts, if a folder without safetensors holds pickled or GGUF
    weights.

    Args:
        folder: of the checkpoint.
        files: names in it.
    """
    names = sorted(files)
    if gguf := next((name for name in names if name.endswith(".gguf")), None):
        file = f"gguf_file={literal(gguf)}"
        # else the weights stay in GGUF's blocks, which cannot be saved
        unpacked = f"{file}, quantization_config=t.GgufConfig(dequantize=True)"
        command = _command(
            folder,
            unpacked,
            f"{_SAVE}; t.AutoTokenizer.from_pretrained({literal(folder)}, {file}).save_pretrained(" + '"CONVERTED")',
        )
        raise ArtefactError(
            f"{folder}: holds its weights as GGUF only ({gguf!r}); merge the checkpoint that it was made from, or "
            f"convert: {command}"
        )
    if pickled := next((name for name in names if name.endswith(_PICKLES)), None):
        raise ArtefactError(
            f"{folder}: holds only pickled weights ({pickled!r}), which can run code and are never opened; where you "
            "trust them, convert: "
            f"{_command(folder, '', _SAVE)}"
        )


def refuse_quantised(config: Mapping[str, Any], path: Path) -> None:
    """Raises ArtefactError with what to do, if a config, or an object in it, says that the weights are quantised.

    Args:
        config: one object of config.json.
        path: of config.json.
    """
    stored: object = config.get("quantization_config")
    if not stored:
        return
    method = str(cast("dict[str, object]", stored).get("quant_method", ""))[:40] if isinstance(stored, dict) else ""
    if method in _DEQUANTISING:
        way = (
            "merge the checkpoint that it was quantised from, or convert: "
            f"{_command(path.parent, *_DEQUANTISING[method])}"
        )
    else:
        way = f"merge the checkpoint that it was quantised from; nothing turns {method or 'it'} back"
    raise ArtefactError(
        f"{path}: the checkpoint is quantised (quantization_config, {method!r}), and only unquantised weights can be "
        f"merged; {way}"
    )


def resaving(folder: Path, architecture: str) -> str:
    """Returns a shell command that saves a folder's model of a class of transformers to CONVERTED, in the layout that
    the installed version writes; its tokenizer stays where it is."""
    return _command(folder, "", _SAVE, architecture)


def _command(folder: Path, how: str, save: str, architecture: str = "AutoModelForCausalLM") -> str:
    """Returns a shell command that loads a folder's model and saves it to CONVERTED as safetensors; but for GGUF, its
    tokenizer stays where it is."""
    code = (
        f"import transformers as t; m, i = t.{architecture}.from_pretrained({literal(folder)}, "
        f'dtype="auto", output_loading_info=True{how and f", {how}"}); '
        # What the files lack the library draws at random, with a warning among others.
        f'assert not i["missing_keys"], i["missing_keys"]; {save}'
    )
    return f"python -c {shlex.quote(code)}"


def literal(value: object) -> str:
    """Returns a value's text as Python code between double quotes, for the shell's are single ones."""
    return json.dumps(str(value), ensure_ascii=False)
