"""config.json of a checkpoint: read with suspicion, asked for its dtype, and made for a merged model."""

import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch

from psomerge.errors import ArtefactError, ConfigError
from psomerge.files import read_json
from psomerge.recipe import DTYPES

MAX_CONFIG = 4 * 2**20
MAX_TOKENIZER = 128 * 2**20
DTYPE_KEYS = ("dtype", "torch_dtype")
STOP_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def read_config(folder: Path, files: Mapping[str, int]) -> dict[str, Any]:
    """Returns the content of config.json.

    Args:
        folder: of the checkpoint.
        files: `listing(folder)`.

    Raises:
        ArtefactError: it is missing, damaged, asks for remote code, is quantised, or names no architecture.
    """
    path = folder / "config.json"
    if "config.json" not in files:
        raise ArtefactError(f"{folder}: has no config.json; expected a checkpoint as transformers' save_pretrained writes it")
    config = read_json(path, MAX_CONFIG)
    _refuse_remote_code(config, path)
    if "tokenizer_config.json" in files:
        _refuse_remote_code(read_json(folder / "tokenizer_config.json", MAX_TOKENIZER), folder / "tokenizer_config.json")
    architectures: object = config.get("architectures")
    names = cast("list[object]", architectures) if isinstance(architectures, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ArtefactError(f"{path}: expected architectures to be a list of class names, found {reprlib.repr(config.get('architectures'))}")
    if not isinstance(config.get("model_type"), str):
        raise ArtefactError(f"{path}: expected model_type to be a name, found {reprlib.repr(config.get('model_type'))}")
    if any(section.get("quantization_config") for _, section in sections(config)):
        raise ArtefactError(f"{path}: the checkpoint is quantised (quantization_config); merge the unquantised checkpoint and quantise the result")
    stored_dtype(config, str(path))
    return config


def sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields ("", config) and, with a prefix such as "text_config.", the objects in it: models of several parts describe each in its own."""
    yield "", config
    for key, value in config.items():
        if isinstance(value, dict):
            yield f"{key}.", value


def _refuse_remote_code(config: Mapping[str, Any], path: Path) -> None:
    for prefix, section in sections(config):
        if "auto_map" in section:
            raise ArtefactError(
                f"{path}: asks for remote code ({prefix}auto_map), which is never run; use a checkpoint of an architecture that transformers has itself,"
                " or remove the key if it has this one"
            )


def stored_dtype(config: Mapping[str, Any], where: str) -> torch.dtype | None:
    """Returns the dtype that a config declares for its weights, None where it declares none. Raises ArtefactError for an unknown one."""
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
    """Returns the dtype to write for a tensor that the base holds as `stored`: `dtype` of the recipe for floats, unchanged for `base` and for integers.

    Raises:
        ConfigError: `dtype` is none of `psomerge.recipe.DTYPES`.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return getattr(torch, dtype) if dtype != "base" and stored.is_floating_point else stored


def merged_config(like: Mapping[str, Any], tokenizer_from: Mapping[str, Any], written: torch.dtype) -> dict[str, Any]:
    """Returns the config of a merged model: the base's, with the stop tokens of the checkpoint whose tokenizer it gets and the dtype that is written."""
    config = dict(like)
    config.pop("_name_or_path", None)  # somebody's folder, written by older transformers
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
