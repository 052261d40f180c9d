"""What a model's class does with the tensors of a checkpoint: which it needs, makes itself, or ignores.

Plain data; whoever may ask the library of the class fills it in.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.layers import is_left_aside
from psomerge.checkpoint.plain_names import plain_name

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclass(frozen=True)
class Loading:
    """How a class loads a checkpoint; names as `psomerge.checkpoint.plain_names.plain_name` gives them."""

    needed: frozenset[str]
    """Tensors that it takes from a checkpoint."""
    made: frozenset[str] = frozenset()
    """Tensors that it makes itself."""
    optional: frozenset[str] = frozenset()
    """Tensors that it takes, and does without."""
    ignored: tuple[str, ...] = ()
    """Regular expressions, searched for in names as they are stored; what is needed is never ignored."""
    layers: int | None = None
    """From which layer on there are only heads for multi-token prediction; None where there are none."""

    def ignores(self, name: str, info: TensorInfo) -> bool:
        """Returns whether the class leaves a tensor of a checkpoint aside.

        Args:
            name: of the tensor, as it is stored.
            info: its header.
        """
        plain, layer = plain_name(name), _LAYER.search(name)
        if plain in self.needed:
            return False
        mask = len(info.shape) == 4 and info.shape[:2] == (1, 1) and info.shape[2] == info.shape[3]
        beyond = self.layers is not None and layer is not None and int(layer[1]) >= self.layers
        listed = any(re.search(pattern, name) for pattern in self.ignored)
        return plain in self.made or listed or beyond or is_left_aside(name) or (mask and name.endswith("bias"))

    def does_without(self, name: str, info: TensorInfo) -> bool:
        """Returns whether a checkpoint may lack a tensor; arguments as `ignores`."""
        return plain_name(name) in self.optional or self.ignores(name, info)


_PREDICTING = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""Number of heads for multi-token prediction, which some keep as layers behind the last."""


def loading_of(model: Any) -> Loading:
    """Returns how a model of transformers loads a checkpoint.

    Args:
        model: built, its tensors anywhere. Nothing but its names and settings is looked at.
    """
    needed = frozenset(plain_name(name) for name in model.state_dict())
    buffers = {name: plain_name(name) for name, _ in model.named_buffers()}
    spared: list[re.Pattern[str]] = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_missing or ()]
    text = model.config.get_text_config()
    return Loading(
        needed=needed,
        made=frozenset(buffers.values()) - needed,
        optional=frozenset(plain for name, plain in buffers.items() if any(one.search(name) for one in spared)),
        ignored=tuple(sorted(model._keys_to_ignore_on_load_unexpected or ())),
        layers=text.num_hidden_layers if any(getattr(text, key, None) for key in _PREDICTING) else None,
    )


Load = Callable[[Mapping[str, Any]], "Loading | None"]
"""Gives how the class of a config loads a checkpoint; None where nobody knows the class."""
