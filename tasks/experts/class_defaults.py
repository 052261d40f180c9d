"""What a config.json leaves to its class: the settings as transformers makes them of it, and which tensors it loads."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from psomerge.checkpoint.config import sections
from psomerge.fit.loading import Loading, loading_of
from psomerge.tasks.quiet import quiet

MAX_PARTS = 1024
"""Layers, or experts of a layer, of a model that is built, without memory, to see which tensors it has."""


def spelt_out(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns a config with every setting that its class has, in the library's newest spelling; None where it has no
    such class, or does not take it.

    Args:
        config: content of a config.json that `psomerge.checkpoint` has read. Nothing that it names is run.
    """
    from transformers import CONFIG_MAPPING

    if config["model_type"] not in CONFIG_MAPPING:
        return None
    try:
        with quiet("transformers"):
            return CONFIG_MAPPING[config["model_type"]].from_dict(_decoded(config)).to_dict()
    except Exception:  # a class of the library may stumble over anything; whether it takes this one is not asked here
        return None


def loading(config: Mapping[str, Any]) -> Loading | None:
    """Returns how the class of a config loads a checkpoint; None where the library has no such class, or does not take
    the config.

    Args:
        config: as of `spelt_out`.
    """
    import torch
    import transformers

    kind = getattr(transformers, config["architectures"][0], None)
    if config["model_type"] not in transformers.CONFIG_MAPPING or not isinstance(kind, type):
        return None
    try:
        with quiet("transformers"), torch.device("meta"):
            settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(_decoded(config))
            if not issubclass(kind, transformers.PreTrainedModel) or _parts(settings.to_dict()) > MAX_PARTS:
                return None
            return loading_of(kind(settings))
    except Exception:  # as of `spelt_out`
        return None


def _decoded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config of its own, as the library writes into it, with numbers without end as the library reads them from a
    file."""
    from transformers import PretrainedConfig

    return PretrainedConfig._decode_special_floats(deepcopy(dict(config)))


def _parts(config: Mapping[str, Any]) -> int:
    """The largest number of layers or experts that a config says."""
    counts = [
        value
        for _, section in sections(config)
        for key, value in section.items()
        if type(value) is int
        and any(word in key for word in ("layer", "depth", "block", "expert"))
        and "size" not in key
    ]
    return max(counts, default=0)
