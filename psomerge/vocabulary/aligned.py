"""A base and its experts with one vocabulary: row i of embedding and head means the same token in all of them. Rows are
gathered when a tensor is asked for.

A token that a checkpoint lacks gets the merged base's row, so that its task vector is 0 there; one that the base lacks
gets the mean of those that have it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from psomerge.checkpoint.adapter import Adapter
from psomerge.checkpoint.config import resized_config
from psomerge.checkpoint.layers import has_row_a_token, vocabulary_rows, with_rows
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import PsomergeError
from psomerge.vocabulary.merged_tokenizer import merged_tokenizer
from psomerge.vocabulary.merged_vocabulary import Union, runs, union

BLOCK = 2**22
"""Elements of a tensor that are gathered together: 16 MiB in float32."""


@dataclass(frozen=True, eq=False)
class Aligned(Checkpoint):
    """A checkpoint whose rows are those of a merged vocabulary; `tensors` gives their shapes."""

    inner: Checkpoint = field(repr=False, kw_only=True)
    rows: Tensor = field(repr=False, kw_only=True)
    """As of `Union.sources`."""
    by_token: frozenset[str] = field(repr=False, kw_only=True)
    """Tensors with one row for each token."""
    lacking: Callable[[str, Tensor], Tensor] = field(repr=False, kw_only=True)
    """Gives the rows (n, ...) of a tensor for merged rows (n,) that this checkpoint has not."""

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """Returns a tensor, or a range of its merged rows: a view where they lie together, else a new one; arguments
        and errors as `Checkpoint`."""
        if name not in self.by_token:
            return self.inner.tensor(name, rows)
        begin, end, _ = (rows or slice(None)).indices(len(self.rows))
        parts: list[Tensor] = []
        for run in runs(self.rows[begin:end]):
            first = int(self.rows[begin + run.start])
            if first < 0:
                parts.append(self.lacking(name, torch.arange(begin + run.start, begin + run.stop)))
            else:
                parts.append(self.inner.tensor(name, slice(first, first + run.stop - run.start)))
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else self.inner.tensor(name, slice(0, 0))

    def check_unchanged(self) -> None:
        """Raises ArtefactError as `Checkpoint.check_unchanged`."""
        self.inner.check_unchanged()


def blocks(one: Checkpoint, name: str, rows: slice | None = None) -> list[slice | None]:
    """Returns the ranges of rows of a tensor, or of a range of its rows, that are best asked for by themselves: no copy
    of all where rows lie apart."""
    if not (isinstance(one, Aligned) and name in one.by_token):
        return [rows]
    shape = one.tensors[name].shape
    begin, end, _ = (rows or slice(None)).indices(shape[0])
    step = max(1, BLOCK // max(1, torch.Size(shape[1:]).numel()))
    return [slice(first, min(first + step, end)) for first in range(begin, end, step)]


def align(
    base: Checkpoint, experts: Sequence[Checkpoint], chosen: Checkpoint
) -> tuple[Checkpoint, tuple[Checkpoint, ...], Union | None]:
    """Returns base and experts with one vocabulary, and that; as they are, and None, where theirs is one already.

    Args:
        base, experts: that fit each other.
        chosen: one of them, whose tokenizer the merged model gets; what is returned for it holds the merged tokenizer's
            files in `edited`.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    merged = union(base, experts, chosen)
    if merged is None:
        return base, tuple(experts), None
    count = vocabulary_rows(base.tensors)
    by_token = frozenset(name for name, info in base.tensors.items() if has_row_a_token(name, info, count))
    edited = {chosen.name: merged_tokenizer(chosen, merged)}
    missing = _Mean(experts, merged)
    fields = _fields(base, merged, edited)
    fields["config"] = MappingProxyType(resized_config(base.config, merged.rows))
    common = Aligned(
        **fields,
        inner=base,
        rows=merged.sources[base.name],
        by_token=by_token,
        lacking=missing.rows,
    )
    own: list[Checkpoint] = []
    for expert in experts:
        one = Aligned(
            **_fields(expert, merged, edited),
            inner=expert,
            rows=merged.sources[expert.name],
            by_token=by_token,
            lacking=lambda name, rows: _gathered(common, name, rows),
        )
        own.append(_adapter(expert, one, common) if isinstance(expert, Adapter) else one)
    return common, tuple(own), merged


def _fields(one: Checkpoint, merged: Union, edited: Mapping[str, Mapping[str, bytes]]) -> dict[str, Any]:
    """What an aligned checkpoint takes over, its tensors by their merged shapes."""
    found = {name: getattr(one, name) for name in ("folder", "name", "config", "files", "tied", "_maps", "_stamps")}
    return found | {
        "tensors": MappingProxyType(with_rows(one.tensors, merged.rows)),
        "edited": MappingProxyType(dict(edited.get(one.name, {}))),
    }


def _adapter(expert: Adapter, aligned: Aligned, base: Aligned) -> Adapter:
    """An adapter of the aligned base: what it does to tensors with a row for each token is read as whole tensors, the
    rest stays low-rank."""
    products = {name: one for name, one in expert.low_rank.items() if name not in aligned.by_token}
    touched = [name for name in base.by_token if name in expert.low_rank or name in expert.whole]
    own = {name: expert.stored.tensors[stored] for name, stored in expert.whole.items() if name not in base.by_token}
    return replace(
        expert,
        base=base,
        tensors=base.tensors,
        edited=aligned.edited,
        low_rank=MappingProxyType(products),
        whole=MappingProxyType({name: name for name in (*own, *touched)}),
        stored=replace(aligned, tensors=MappingProxyType({**aligned.tensors, **own})),
    )


class _Mean:
    """The rows of tokens that the base lacks: the mean of the experts that have them."""

    def __init__(self, experts: Sequence[Checkpoint], merged: Union) -> None:
        self._owners = [(expert, merged.sources[expert.name]) for expert in experts]

    def rows(self, name: str, places: Tensor) -> Tensor:
        """Returns rows (n, ...) of a tensor for merged rows (n,): float32, or the only owner's dtype."""
        having = [(expert, found) for expert, rows in self._owners if bool(((found := rows[places]) >= 0).any())]
        if len(having) == 1 and bool((having[0][1] >= 0).all()):
            return _gathered(having[0][0], name, having[0][1])
        total: Tensor | None = None
        count = torch.zeros(len(places))
        for expert, found in having:
            present = found >= 0
            values = _gathered(expert, name, found[present]).float()
            total = values.new_zeros(len(places), *values.shape[1:]) if total is None else total
            total[present] += values
            count += present
        if total is None or not bool(count.all()):
            raise PsomergeError("a row that no checkpoint has; this is a bug in the union of vocabularies")
        return total.div_(count.view(-1, *[1] * (total.ndim - 1)))


def _gathered(one: Checkpoint, name: str, rows: Tensor) -> Tensor:
    """The rows (n, ...) of a checkpoint's tensor at places (n,), in any order."""
    parts = [
        one.tensor(name, slice(int(rows[run.start]), int(rows[run.start]) + run.stop - run.start)) for run in runs(rows)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
