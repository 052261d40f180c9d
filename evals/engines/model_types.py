"""Which models transformers makes, known without importing it: an import costs many seconds, and a run asks before it
starts an engine. And how it makes one, for those who have imported it."""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CAUSAL = ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES")
_MULTIMODAL = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")


def of_text() -> frozenset[str]:
    """Returns the values of `model_type` of which the installed transformers has a model that reads and writes text."""
    return frozenset(key for name in _CAUSAL for key in _tables()[name])


def multimodal() -> Mapping[str, str]:
    """Returns the classes of those that read pictures or sounds beside text, by `model_type`."""
    return {key: value for name in _MULTIMODAL for key, value in _tables()[name].items()}


def auto_class(config: Any) -> Any:
    """Returns the class of transformers' that makes the model of a config that it has read."""
    import transformers

    if multimodal().get(config.model_type) in config.architectures:
        return transformers.AutoModelForMultimodalLM
    paired = getattr(config, "is_encoder_decoder", False)
    return transformers.AutoModelForSeq2SeqLM if paired else transformers.AutoModelForCausalLM


def decoder_start(config: Any, generation: Any = None) -> int | None:
    """Returns the token that an encoder-decoder's text begins with, as transformers' `generate` takes it: T5Gemma says
    none and begins with the first token of a text.

    Args:
        config: of the model, as transformers has read it.
        generation: its generation_config, where it has one.
    """
    parts = (config, generation, getattr(config, "decoder", None), getattr(config, "text_config", None))
    for name in ("decoder_start_token_id", "bos_token_id"):
        for part in parts:
            if isinstance(found := getattr(part, name, None), int):
                return found
    return None


@cache
def _tables() -> Mapping[str, Mapping[str, str]]:
    """Raises RuntimeError where the registry of this version looks otherwise."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        raise RuntimeError("transformers is not installed; run `make setup`")
    registry = Path(found.origin).parent / "models" / "auto" / "modeling_auto.py"
    tables: dict[str, dict[str, str]] = {}
    for node in ast.parse(registry.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(name := node.targets[0], ast.Name)
            and name.id in (*_CAUSAL, *_MULTIMODAL)
            and isinstance(node.value, ast.Call)
            and isinstance(entries := node.value.args[0], ast.List)
        ):
            # One table takes the other in by a starred entry: its own are all that is wanted here.
            pairs = [ast.literal_eval(entry) for entry in entries.elts if isinstance(entry, ast.Tuple)]
            tables[name.id] = {key: value if isinstance(value, str) else value[0] for key, value in pairs}
    if missing := sorted({*_CAUSAL, *_MULTIMODAL} - tables.keys()):
        raise RuntimeError(
            f"{registry}: has no table {missing[0]}; this version of transformers is not the one in the lock"
        )
    return tables
