"""An expert's checkpoint under its base's names: one model in two layouts, and tensors that only one of both has.

Names are matched without what versions and classes put before them, a mixture's experts packed or single; a pair must
have equal shapes. What finds no partner is the base's, or is left out: whether it may be, `psomerge.fit.misfits` says
before any model is made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.layers import has_row_a_token, vocabulary_rows
from psomerge.checkpoint.plain_names import plain_name
from psomerge.checkpoint.reader import Checkpoint

_PACKED = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
"""What a packed tensor (experts, rows, columns) holds of each expert, one behind the other in its rows."""


@dataclass(frozen=True, eq=False)
class LaidOut(Checkpoint):
    """A checkpoint with exactly its base's tensors, by the base's names."""

    inner: Checkpoint = field(repr=False, kw_only=True)
    """As its files have it."""
    base: Checkpoint = field(repr=False, kw_only=True)
    stacked: Mapping[str, tuple[tuple[str, ...], ...]] = field(repr=False, kw_only=True)
    """By tensor that holds many of its own: for each row their names, to be laid one behind the other."""
    taken: tuple[str, ...] = field(kw_only=True)
    """Tensors that are the base's."""
    left_out: tuple[str, ...] = field(kw_only=True)
    """Tensors of its own that the base has not."""

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """Returns a tensor, or a range of rows of it: a view, or a new one where it is stacked; arguments and errors
        as `Checkpoint`."""
        if name in self.taken:
            return self.base.tensor(name, rows)
        if name not in self.stacked:
            return super().tensor(name, rows)
        parts = [torch.cat([*map(self.inner.tensor, names)]) for names in self.stacked[name][rows or slice(None)]]
        info = self.tensors[name]
        return torch.stack(parts) if parts else torch.empty((0, *info.shape[1:]), dtype=info.dtype)

    def is_view(self, name: str) -> bool:
        """Returns what `Checkpoint.is_view` does."""
        return self.base.is_view(name) if name in self.taken else name not in self.stacked and super().is_view(name)


def laid_out(expert: Checkpoint, base: Checkpoint) -> Checkpoint:
    """Returns an expert with exactly its base's tensors, by the base's names; as it is where it has them.

    Args:
        expert: as its files have it, or its headers only.
        base: that it is merged with.
    """
    rows = vocabulary_rows(base.tensors), vocabulary_rows(expert.tensors)
    fitting = {
        name: expert.tensors[name]
        for name, info in base.tensors.items()
        if name in expert.tensors and _alike(name, info, expert.tensors[name], rows)
    }
    spare = {name: info for name, info in expert.tensors.items() if name not in base.tensors}
    if len(fitting) == len(base.tensors) and not spare:
        return expert
    lacking = {name: info for name, info in base.tensors.items() if name not in expert.tensors}
    found, stacked, used = _renamed(lacking, spare, rows)
    for match in (_unpacked, _packed):
        more, stacks, gone = match(lacking, spare)
        found, stacked, used = found | more, stacked | stacks, used | gone
    tensors = {name: (fitting | found).get(name, info) for name, info in base.tensors.items()}
    return LaidOut(
        **{name: getattr(expert, name) for name in ("folder", "name", "config", "files", "tied", "_maps", "_stamps")},
        tensors=MappingProxyType(tensors),
        inner=expert,
        base=base,
        stacked=MappingProxyType(stacked),
        taken=tuple(name for name in base.tensors if name not in fitting and name not in found),
        left_out=tuple(name for name in spare if name not in used),
    )


def _alike(name: str, ours: TensorInfo, theirs: TensorInfo, rows: tuple[int | None, int | None]) -> bool:
    """Whether two tensors can be merged, by their headers."""
    by_token = (
        has_row_a_token(name, ours, rows[0])
        and has_row_a_token(name, theirs, rows[1])
        and ours.shape[1:] == theirs.shape[1:]
    )
    floats = ours.dtype.is_floating_point and theirs.dtype.is_floating_point
    return (ours.shape == theirs.shape or by_token) and (floats or ours.dtype == theirs.dtype)


_Found = tuple[dict[str, TensorInfo], dict[str, tuple[tuple[str, ...], ...]], set[str]]
"""Tensors by the base's name, those of them that are stacked, and the expert's names that were used."""


def _renamed(
    lacking: Mapping[str, TensorInfo], spare: Mapping[str, TensorInfo], rows: tuple[int | None, int | None]
) -> _Found:
    """Pairs of tensors with one plain name; none where a plain name is not one tensor's only."""
    ours, theirs = ({plain_name(name): name for name in names} for names in (lacking, spare))
    if len(ours) != len(lacking) or len(theirs) != len(spare):
        return {}, {}, set()
    pairs = {
        ours[plain]: name
        for plain, name in theirs.items()
        if plain in ours and _alike(ours[plain], lacking[ours[plain]], spare[name], rows)
    }
    return {name: spare[own] for name, own in pairs.items()}, {}, set(pairs.values())


def _single(packed: str, expert: int, part: str) -> str:
    return f"{packed.rpartition('.')[0]}.{expert}.{part}.weight"


def _mixtures(names: Mapping[str, TensorInfo]) -> list[dict[str, str]]:
    """The packed tensors of each mixture among these, by plain name; only where all of its kinds are."""
    plain = {plain_name(name): name for name in names if len(names[name].shape) == 3}
    stems = [name.removesuffix(".down_proj") for name in plain if name.endswith(".experts.down_proj")]
    groups = [{f"{stem}.{kind}": plain.get(f"{stem}.{kind}", "") for kind in _PACKED} for stem in stems]
    return [group for group in groups if all(group.values())]


def _singles(packed: str, shape: tuple[int, ...]) -> tuple[list[list[str]], tuple[int, int]]:
    """The plain names of what a packed tensor holds, a list for each of a mixture's experts, and their shape."""
    parts = _PACKED[packed.rpartition(".")[2]]
    return [[_single(packed, expert, part) for part in parts] for expert in range(shape[0])], (
        shape[1] // len(parts),
        shape[2],
    )


def _unpacked(lacking: Mapping[str, TensorInfo], spare: Mapping[str, TensorInfo]) -> _Found:
    """The base's single experts, as ranges of the expert's packed ones."""
    ours = {plain_name(name): name for name in lacking}
    found: dict[str, TensorInfo] = {}
    used: set[str] = set()
    for mixture in _mixtures(spare):
        more: dict[str, TensorInfo] = {}
        for packed, own in mixture.items():
            rows, shape = _singles(packed, spare[own].shape)
            step = math.prod(shape) * spare[own].dtype.itemsize
            for place, name in enumerate(name for row in rows for name in row):
                begin = spare[own].begin + place * step
                more[ours.get(name, "")] = replace(spare[own], shape=shape, begin=begin, end=begin + step)
        # of both tensors together, for a square one could lie either way
        if all(name in lacking and lacking[name].shape == info.shape for name, info in more.items()):
            found, used = found | more, used | {*mixture.values()}
    return found, {}, used


def _packed(lacking: Mapping[str, TensorInfo], spare: Mapping[str, TensorInfo]) -> _Found:
    """The base's packed experts, as stacks of the expert's single ones."""
    theirs = {plain_name(name): name for name in spare}
    found: dict[str, TensorInfo] = {}
    stacked: dict[str, tuple[tuple[str, ...], ...]] = {}
    for mixture in _mixtures(lacking):
        more: dict[str, tuple[tuple[str, ...], ...]] = {}
        kinds: set[tuple[bool, torch.dtype | None]] = set()
        for packed, own in mixture.items():
            rows, shape = _singles(packed, lacking[own].shape)
            more[own] = tuple(tuple(theirs.get(name, "") for name in row) for row in rows)
            infos = [spare.get(name) for row in more[own] for name in row]
            kinds |= {(info is not None and info.shape == shape, info and info.dtype) for info in infos}
        if len(kinds) == 1 and kinds.pop()[0]:
            stacked |= more
            found |= {own: replace(spare[rows[0][0]], shape=lacking[own].shape) for own, rows in more.items()}
    return found, stacked, {name for rows in stacked.values() for row in rows for name in row}
