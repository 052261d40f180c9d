"""What the tensors of an adapter's file are called: PEFT's keys, as PEFT itself and as trainers around it write them,
and those of MLX.

Only names are looked at. Wrappers of a trainer and doubled prefixes are taken off as far as that leads to a tensor of
the base, if need be to one that another layout calls so: PEFT writes names as the class of the model has them, which
may be others than in the base's files. What leads to none keeps the name that PEFT means by it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from psomerge.checkpoint.plain_names import TRAINERS, Names

PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_OF_EMBEDDING = re.compile(r"(?P<module>.+)\.lora_embedding_(?P<side>[AB])(?:\.(?P<adapter>[^.]+))?")
_OF_MLX = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")
_SAVED = re.compile(r"(?P<module>.+)\.modules_to_save\.(?:(?P<adapter>[^.]+)\.)?(?P<rest>[^.]+(?:\..+)?)")
_PLACES = re.compile(r"\.(?P<place>original_module|base_layer)\.")


class Kind(StrEnum):
    """What a tensor of an adapter's file is to a tensor of the base."""

    A = "A"
    B = "B"
    EMBEDDING_A = "embedding A"
    EMBEDDING_B = "embedding B"
    MLX_A = "a"
    """(columns, rank), or (tokens, rank) of an embedding."""
    MLX_B = "b"
    SAVED = "modules_to_save"
    """Trained whole."""
    WHOLE = "whole"
    """Trained whole, or stored along as it is: a bias, an embedding."""
    ORIGINAL = "original_module"
    """The base's own beside what was trained."""
    BASE_LAYER = "base_layer"
    """The base's own beside the factors."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Key:
    """A tensor's name, read."""

    kind: Kind
    target: str
    """Of the base: the tensor that this changes."""
    module: str
    """The target's, as the adapter's settings call it."""
    adapter: str | None
    """Name of the adapter where the key says it: files of a whole training state may hold several."""


def read_key(name: str, base: Names) -> Key:
    """Returns what a name in an adapter's file says.

    Args:
        name: of the tensor.
        base: the base's tensors.
    """
    plain = TRAINERS.sub("", name)
    for kinds, pattern in (
        ({"A": Kind.A, "B": Kind.B}, _FACTOR),
        ({"A": Kind.EMBEDDING_A, "B": Kind.EMBEDDING_B}, _OF_EMBEDDING),
        ({"a": Kind.MLX_A, "b": Kind.MLX_B}, _OF_MLX),
    ):
        if found := pattern.fullmatch(plain):
            return _key(kinds[found["side"]], f"{found['module']}.weight", base, found.groupdict().get("adapter"))
    if ".lora_" in plain:
        return Key(Kind.UNKNOWN, plain, plain, None)
    if found := _SAVED.fullmatch(plain):
        return _saved(found, base)
    if place := _PLACES.search(plain):
        return _key(Kind(place["place"]), _PLACES.sub(".", plain), base)
    return _key(Kind.WHOLE, plain, base)


def _saved(found: re.Match[str], base: Names) -> Key:
    """`head.modules_to_save.dense.weight` may be of an adapter called dense, or of a part that is: the base decides."""
    if found["adapter"] is None:
        return _key(Kind.SAVED, f"{found['module']}.{found['rest']}", base)
    inner = _key(Kind.SAVED, f"{found['module']}.{found['adapter']}.{found['rest']}", base)
    return (
        inner
        if inner.target in base
        else _key(Kind.SAVED, f"{found['module']}.{found['rest']}", base, found["adapter"])
    )


def _key(kind: Kind, name: str, base: Names, adapter: str | None = None) -> Key:
    candidates = list(_without_prefixes(name))
    meant = next((one for one in candidates if one in base), candidates[0])
    target = meant if meant in base else base.alike(meant) or meant
    return Key(kind, target, meant.rpartition(".")[0], adapter)


def _without_prefixes(name: str) -> Iterator[str]:
    """Yields a name as PEFT means it, then with the prefix as often off as it stands there, whole, and as a model with
    a head calls what one without calls so."""
    inner = name
    while inner.startswith(PREFIX):
        inner = inner.removeprefix(PREFIX)
        yield inner
    yield name
    yield f"model.{inner}"
