"""adapter_config.json of a LoRA adapter, of PEFT or MLX, read with suspicion: what describes no sum of the base and
low-rank products is refused."""

import math
import re
import reprlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.names import ADAPTER
from psomerge.files.untrusted import read_json
from psomerge.screening.formats import literal

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
    if is_mlx(config):
        _check_mlx(config, path)
        return config
    if config.get("peft_type") != "LORA":
        raise ArtefactError(
            f"{path}: expected peft_type LORA, found {reprlib.repr(config.get('peft_type'))}; {expand(folder, config)}"
        )
    if further := sorted(key for key, value in config.items() if key not in _PLAIN and value):
        raise ArtefactError(
            f"{path}: {further[0]} is {reprlib.repr(config[further[0]])}, so this is no sum of the base and low-rank "
            f"products; {expand(folder, config)}"
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


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Returns whether this is what MLX's trainer writes: its own settings."""
    return "peft_type" not in config and ("fine_tune_type" in config or "lora_parameters" in config)


def _check_mlx(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "full"):
        raise ArtefactError(
            f"{path}: expected fine_tune_type lora or full, found {reprlib.repr(kind)}; {expand(path.parent, config)}"
        )
    settings: object = config.get("lora_parameters")
    for key in ("rank", "scale") if kind == "lora" else ():
        value = cast("dict[str, object]", settings).get(key) if isinstance(settings, dict) else None
        _positive(value, f"{path}: lora_parameters.{key}")


def expand(folder: Path, config: Mapping[str, Any]) -> str:
    """Returns what makes a full checkpoint of an adapter that is no low-rank sum: a command of its own trainer."""
    if is_mlx(config):
        model = shlex.quote(str(config.get("model") or "MODEL"))
        return (
            "where you trust it, merge it into a checkpoint: python -m mlx_lm fuse "
            f"--model {model} --adapter-path {shlex.quote(str(folder))} --save-path MERGED"
        )
    kind = {"CAUSAL_LM": "ForCausalLM", "SEQ_2_SEQ_LM": "ForSeq2SeqLM"}.get(str(config.get("task_type")), "")
    if not (kind or config.get("auto_mapping")):
        kind = "ForCausalLM"
    code = (
        f"import peft; peft.AutoPeftModel{kind}.from_pretrained({literal(folder)})"
        '.merge_and_unload().save_pretrained("MERGED")'
    )
    return f"where you trust it, merge it into a checkpoint: python -c {shlex.quote(code)}"


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


def rank_of(config: Mapping[str, Any], module: str) -> float:
    """Returns the rank of a module's factors, as the settings of PEFT or MLX say it."""
    if is_mlx(config):
        return config["lora_parameters"]["rank"] if "lora_parameters" in config else 0
    return _by_pattern(config, "rank_pattern", module) or config["r"]


def scale_of(config: Mapping[str, Any], module: str) -> float:
    """Returns what a module's product is multiplied by.

    Source: arXiv 2106.09685, section 4.1, alpha / rank; rank-stabilised: arXiv 2312.03732, alpha / sqrt(rank). MLX says
    the scale itself.
    """
    if is_mlx(config):
        return config["lora_parameters"]["scale"]
    rank, alpha = rank_of(config, module), _by_pattern(config, "alpha_pattern", module) or config["lora_alpha"]
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def is_saved_whole(config: Mapping[str, Any], module: str) -> bool:
    """Returns whether the settings say that a module was trained whole, by its name or the end of it."""
    stored: object = config.get("modules_to_save")
    names = cast("list[object]", stored) if isinstance(stored, list) else [stored]
    return any(isinstance(name, str) and (module == name or module.endswith(f".{name}")) for name in names)


def trained_on(config: Mapping[str, Any]) -> str:
    """Returns what the settings call the base that an adapter was trained on; empty if they say nothing."""
    name = config.get("model" if is_mlx(config) else "base_model_name_or_path")
    return name if isinstance(name, str) else ""


def _by_pattern(config: Mapping[str, Any], key: str, module: str) -> float | None:
    """The value of the first pattern under `key` that ends a module's name, as PEFT reads them; None if none does."""
    patterns: Mapping[str, float] = config.get(key) or {}
    return next((value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)), None)
