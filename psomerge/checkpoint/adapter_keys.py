"""What the tensors of an adapter's file are called: PEFT's keys, as PEFT itself and as trainers around it write them,
and those of MLX.

Only names are looked at. Wrappers of a trainer and doubled prefixes are taken off as far as that leads to a tensor of
the base; what leads to none keeps the name that PEFT means by it.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "base_model.model."
_WRAPPERS = re.compile(r"(?:^module\.|(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)")
"""Of torch.compile, FSDP and checkpointed activations anywhere, of data parallelism in front."""
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
    adapter: str | None
    """Name of the adapter where the key says it: files of a whole training state may hold several."""

    @property
    def module(self) -> str:
        """The target without its last part."""
        return self.target.rpartition(".")[0]


def read_key(name: str, base: Container[str]) -> Key:
    """Returns what a name in an adapter's file says.

    Args:
        name: of the tensor.
        base: the names of the base's tensors.
    """
    plain = _WRAPPERS.sub("", name)
    for kinds, pattern in (
        ({"A": Kind.A, "B": Kind.B}, _FACTOR),
        ({"A": Kind.EMBEDDING_A, "B": Kind.EMBEDDING_B}, _OF_EMBEDDING),
        ({"a": Kind.MLX_A, "b": Kind.MLX_B}, _OF_MLX),
    ):
        if found := pattern.fullmatch(plain):
            return Key(
                kinds[found["side"]], _target(f"{found['module']}.weight", base), found.groupdict().get("adapter")
            )
    if ".lora_" in plain:
        return Key(Kind.UNKNOWN, plain, None)
    if found := _SAVED.fullmatch(plain):
        return _saved(found, base)
    if place := _PLACES.search(plain):
        return Key(Kind(place["place"]), _target(_PLACES.sub(".", plain), base), None)
    return Key(Kind.WHOLE, _target(plain, base), None)


def _saved(found: re.Match[str], base: Container[str]) -> Key:
    """`head.modules_to_save.dense.weight` may be of an adapter called dense, or of a part that is: the base decides."""
    if found["adapter"] is None:
        return Key(Kind.SAVED, _target(f"{found['module']}.{found['rest']}", base), None)
    inner = _target(f"{found['module']}.{found['adapter']}.{found['rest']}", base)
    if inner in base:
        return Key(Kind.SAVED, inner, None)
    return Key(Kind.SAVED, _target(f"{found['module']}.{found['rest']}", base), found["adapter"])


def _target(name: str, base: Container[str]) -> str:
    candidates = list(_without_prefixes(name))
    return next((one for one in candidates if one in base), candidates[0])


def _without_prefixes(name: str) -> Iterator[str]:
    """Yields a name as PEFT means it, then with the prefix as often off as it stands there, whole, and as a model with
    a head calls what one without calls so."""
    inner = name
    while inner.startswith(PREFIX):
        inner = inner.removeprefix(PREFIX)
        yield inner
    yield name
    yield f"model.{inner}"
