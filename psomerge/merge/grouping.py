"""Groups of tensors: each has a row of coefficients of its own. By name alone."""

import re
from collections.abc import Callable, Mapping, Sequence

from psomerge.checkpoint.layers import is_embedding, is_head
from psomerge.errors import ArtefactError

_KINDS = {
    "embedding": re.compile(r"embed|lm_head|\bwpe\b"),
    "norm": re.compile(r"norm|\bln_\w+\b"),
    "attention": re.compile(r"attn|attention"),
}


def _layer(name: str) -> str:
    match = re.search(r"\.(\d+)\.", name)
    return f"layer {match[1]}" if match else "outside layers"


def _kind(name: str) -> str:
    if is_embedding(name) or is_head(name):
        return "embedding"
    return next((kind for kind, words in _KINDS.items() if words.search(name.lower())), "feed-forward")


GROUPINGS: Mapping[str, Callable[[str], str]] = {"model": lambda name: "model", "layers": _layer, "kinds": _kind}
"""How a tensor's name gives its group: one for all, one a layer, one a kind of tensor."""


def groups(names: Sequence[str], grouping: str) -> dict[str, int]:
    """Returns the row of the coefficients for every tensor, rows numbered by first appearance in `names` (layer order).

    Raises:
        ArtefactError: an unknown grouping.
    """
    if grouping not in GROUPINGS:
        raise ArtefactError(f"unknown grouping {grouping!r}; expected one of {', '.join(GROUPINGS)}")
    labels = [GROUPINGS[grouping](name) for name in names]
    rows = {label: row for row, label in enumerate(dict.fromkeys(labels))}
    return {name: rows[label] for name, label in zip(names, labels, strict=True)}
