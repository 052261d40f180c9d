"""config.json of a checkpoint: read with suspicion, asked for its dtype, and made for a merged model."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.rope import SPELLINGS, rope_contradictions
from psomerge.checkpoint.tying import KEY, ties_head
from psomerge.errors import ArtefactError, ConfigError
from psomerge.files.untrusted import read_json
from psomerge.recipe import DTYPES
from psomerge.screening.companions import check_companions, objects, refuse_remote_code
from psomerge.screening.formats import refuse_other_formats, refuse_quantised

MAX_CONFIG = 4 * 2**20
MAX_LAYERS, MAX_SIZE = 10_000, 2**24
_LAYERS = (
    "num_hidden_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
    "n_layer",
    "n_layers",
)
_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "d_model",
)
DTYPE_KEYS = ("dtype", "torch_dtype")
STOP_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_config(folder: Path, files: Mapping[str, int]) -> dict[str, Any]:
    """Returns the content of config.json, after a look at the other small files beside it.

    Args:
        folder: of the checkpoint.
        files: `listing(folder)`.

    Raises:
        ArtefactError: it is missing, damaged, asks for remote code, is quantised, names no architecture or an absurd
            size, or says its rope twice in two ways; or as `check_companions`.
    """
    path = folder / "config.json"
    if "config.json" not in files:
        if not any(name.endswith(".safetensors") for name in files):
            refuse_other_formats(folder, files)
        raise ArtefactError(
            f"{folder}: has no config.json; expected a checkpoint as transformers' save_pretrained writes it"
        )
    config = read_json(path, MAX_CONFIG)
    refuse_remote_code(config, path)
    check_companions(folder, files)
    architectures: object = config.get("architectures")
    names = cast("list[object]", architectures) if isinstance(architectures, list) else []
    # Commands that are told to a user hold the name.
    if not names or not all(isinstance(name, str) and name.isidentifier() for name in names):
        raise ArtefactError(
            f"{path}: expected architectures to be a list of class names, found "
            f"{reprlib.repr(config.get('architectures'))}"
        )
    if not isinstance(config.get("model_type"), str):
        raise ArtefactError(f"{path}: expected model_type to be a name, found {reprlib.repr(config.get('model_type'))}")
    for prefix, section in objects(config):
        refuse_quantised(section, path)
        _check_sizes(prefix, section, path)
    _check_rope(config, path)
    stored_dtype(config, str(path))
    return config


def sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields ("", config) and, with a prefix such as "text_config.", the objects in it: models of several parts
    describe each in its own."""
    yield "", config
    for key, value in config.items():
        if isinstance(value, dict):
            yield f"{key}.", value


def _check_rope(config: Mapping[str, Any], path: Path) -> None:
    """Raises ArtefactError where a section says one setting of its rope twice, and in two ways."""
    for prefix, section in sections(config):
        if prefix not in SPELLINGS and (twice := next(rope_contradictions(section), None)):
            raise ArtefactError(
                f"{path}: says {prefix and f'in {prefix[:-1]} '}{twice}, which are one setting; libraries disagree "
                "about which one counts: remove the one that the model was not trained with"
            )


def _check_sizes(prefix: str, section: Mapping[str, Any], path: Path) -> None:
    """Raises ArtefactError for a size that no model has: whoever builds lists or tensors by it runs out of memory."""
    for key, value in section.items():
        counts = cast("list[object]", value) if isinstance(value, list) else [value]
        if any(type(count) is int and not -(2**63) <= count < 2**63 for count in counts):
            raise ArtefactError(
                f"{path}: {prefix}{key} is {reprlib.repr(section[key])}, expected whole numbers of at most 64 bits; "
                "fetch the file again"
            )
        most = MAX_LAYERS if key in _LAYERS else MAX_SIZE if key in _SIZES else None
        if (
            most is not None
            and value is not None
            and not all(type(count) is int and 0 <= count <= most for count in counts)
        ):
            raise ArtefactError(
                f"{path}: {prefix}{key} is {reprlib.repr(section[key])}, expected a whole number from 0 to {most}; "
                "fetch the file again"
            )


def stored_dtype(config: Mapping[str, Any], where: str) -> torch.dtype | None:
    """Returns the dtype that a config declares for its weights, None where it declares none. Raises ArtefactError for
    an unknown one."""
    for _, section in sections(config):
        for key in DTYPE_KEYS:
            value = section.get(key)
            if value is None:
                continue
            name = str(value).removeprefix("torch.")
            if name not in DTYPES[1:]:
                raise ArtefactError(f"{where}: {key} is {reprlib.repr(value)}, expected one of {', '.join(DTYPES[1:])}")
            return getattr(torch, name)
    return None


def output_dtype(stored: torch.dtype, dtype: str) -> torch.dtype:
    """Returns the dtype to write for a tensor that the base holds as `stored`: `dtype` of the recipe for floats,
    unchanged for `base` and for integers.

    Raises:
        ConfigError: `dtype` is none of `psomerge.recipe.DTYPES`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return getattr(torch, dtype) if dtype != "base" and stored.is_floating_point else stored


def main_dtype(tensors: Iterable[TensorInfo], dtype: str = "base") -> torch.dtype:
    """Returns the float dtype that most of the bytes of tensors have, float32 where none are of floats.

    Args:
        tensors: as a base stores them.
        dtype: that they are to be written in, one of `psomerge.recipe.DTYPES`.

    Raises:
        ConfigError: as `output_dtype`.
    """
    sizes: dict[torch.dtype, int] = {}
    for info in tensors:
        written = output_dtype(info.dtype, dtype)
        if written.is_floating_point:
            sizes[written] = sizes.get(written, 0) + info.end - info.begin
    return max(sizes, key=lambda key: sizes[key], default=torch.float32)


def resized_config(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Returns a config with another vocab_size wherever it says one."""
    changed = dict(config)
    for prefix, section in list(sections(config)):
        if isinstance(section.get("vocab_size"), int):
            changed |= (
                {prefix.removesuffix("."): dict(section) | {"vocab_size": rows}} if prefix else {"vocab_size": rows}
            )
    return changed


def merged_config(like: Mapping[str, Any], tokenizer_from: Mapping[str, Any], written: torch.dtype) -> dict[str, Any]:
    """Returns the config of a merged model: the base's, with the stop tokens of the checkpoint whose tokenizer it gets
    and the dtype that is written."""
    config = dict(like)
    config.pop("_name_or_path", None)  # somebody's folder, written by older transformers
    if (tied := ties_head(like)) is not None:
        config[KEY] = tied  # said, as other libraries and versions have other defaults
    for key in STOP_KEYS:
        config.pop(key, None)
        if key in tokenizer_from:
            config[key] = tokenizer_from[key]
    name = str(written).removeprefix("torch.")
    for prefix, section in list(sections(config)):
        named = {key: name for key in DTYPE_KEYS if section.get(key) is not None}
        if not prefix:
            config |= named or {"dtype": name}
        elif named:
            config[prefix.removesuffix(".")] = dict(section) | named
    return config
