"""What a config.json leaves to its class: the settings as transformers makes them of it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from psomerge.tasks.quiet import quiet


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
            return CONFIG_MAPPING[config["model_type"]].from_dict(deepcopy(dict(config))).to_dict()  # it writes into it
    except Exception:  # a class of the library may stumble over anything; whether it takes this one is not asked here
        return None
