"""adapter_config.json of a LoRA adapter, read with suspicion: what describes no sum of the base and low-rank products
is refused."""

import math
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.untrusted import ADAPTER, read_json

MAX_CONFIG = 2**20
_PLAIN = {
    *(
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
    ),
    *(
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
    ),
    *(
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "modules_to_save",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
    ),
    *("revision", "runtime_config", "target_modules", "task_type", "use_rslora"),
}
"""Fields of adapter_config.json that leave the adapter a sum of low-rank products, whatever they say; any other must
say nothing."""
_ON_PLAIN_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
"""Initialisations that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take something off it
first, which the adapter does not tell."""


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Returns the content of adapter_config.json. Raises ArtefactError where it is damaged or describes something else
    than a low-rank sum."""
    path = folder / ADAPTER
    config = read_json(path, MAX_CONFIG)
    if config.get("peft_type") != "LORA":
        raise ArtefactError(
            f"{path}: expected peft_type LORA, found {reprlib.repr(config.get('peft_type'))}; {_expand(folder)}"
        )
    if further := sorted(key for key, value in config.items() if key not in _PLAIN and value):
        raise ArtefactError(
            f"{path}: {further[0]} is {reprlib.repr(config[further[0]])}, so this is no sum of the base and low-rank "
            f"products; {_expand(folder)}"
        )
    if (init := config.get("init_lora_weights")) not in _ON_PLAIN_BASE:
        raise ArtefactError(
            f"{path}: init_lora_weights is {reprlib.repr(init)}, which changes the base beneath the adapter; "
            "save it with PEFT's path_initial_model_for_weight_conversion"
        )
    for key in ("r", "lora_alpha"):
        _positive(config.get(key), f"{path}: {key}")
    for key in ("rank_pattern", "alpha_pattern"):
        _patterns(config.get(key) or {}, f"{path}: {key}")
    return config


def _expand(folder: Path) -> str:
    return (
        'where you trust it, merge it into a checkpoint: python -c "from peft import AutoPeftModelForCausalLM as M; '
        f"M.from_pretrained({str(folder)!r}).merge_and_unload().save_pretrained('MERGED')\""
    )


def _positive(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ArtefactError(f"{where} is {reprlib.repr(value)}, expected a positive number")


def _patterns(patterns: Any, where: str) -> None:
    """Refuses what is no mapping of patterns to numbers, and patterns that could keep the regular expression engine
    busy for ever."""
    if not isinstance(patterns, dict):
        raise ArtefactError(f"{where} is {reprlib.repr(patterns)}, expected an object")
    for pattern, value in cast("dict[str, Any]", patterns).items():
        _positive(value, f"{where}: {reprlib.repr(pattern)}")
        if (
            len(pattern) > 500
            or len(re.findall(r"[*+?{]", pattern)) > 3
            or re.search(r"\)[*+?{]|\\[1-9]|\(\?", pattern)
        ):
            raise ArtefactError(
                f"{where}: pattern {reprlib.repr(pattern)} is too involved; write one entry for each module"
            )
        try:
            re.compile(pattern)
        except re.error as error:
            raise ArtefactError(f"{where}: {reprlib.repr(pattern)} is no regular expression ({error})") from error


def by_pattern(config: Mapping[str, Any], key: str, module: str) -> float | None:
    """Returns the value of the first pattern under `key` that ends a module's name, as PEFT reads them; None if none
    does."""
    patterns: Mapping[str, float] = config.get(key) or {}
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)), None)
