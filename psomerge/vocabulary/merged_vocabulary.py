"""One vocabulary for a base and experts that added tokens to it: the chosen tokenizer's, and behind it what the others
added.

Which row of each checkpoint holds which of its tokens is all that a merge by token needs. A function of files alone:
every process finds the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor

from psomerge.checkpoint.layers import vocabulary_rows
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.names import VOCABULARY_FILES
from psomerge.vocabulary.tokens import (
    AddedToken,
    Vocabulary,
    added,
    few,
    placeholder,
    read_vocabulary,
    same_files,
    shown,
)

_FILES = {*VOCABULARY_FILES, "added_tokens.json", "tokenizer_config.json"}


@dataclass(frozen=True)
class Union:
    """The merged model's vocabulary, and where its rows come from."""

    sources: Mapping[str, Tensor]
    """By checkpoint: (rows,) int64, the row that holds the token of each merged row, -1 where the checkpoint has no
    such token."""
    added: Mapping[str, AddedToken]
    """Tokens that the chosen tokenizer lacks, with their ids there."""
    renamed: frozenset[str]
    """Placeholders of the chosen tokenizer whose rows some of them take."""

    @property
    def rows(self) -> int:
        """Number of rows of the merged embedding."""
        return len(next(iter(self.sources.values())))

    @cached_property
    def digest(self) -> str:
        """64 hex digits that change with every row's source."""
        found = sha256()
        for name, rows in self.sources.items():
            found.update(f"{name}\0{len(rows)}\0".encode() + rows.numpy().astype("<i8").tobytes())
        return found.hexdigest()

    def __str__(self) -> str:
        plural = "s" if len(self.added) != 1 else ""
        tokens = (
            f"{len(self.added)} token{plural} of others: {few([shown(token) for token in self.added], 8)}"
            if self.added
            else "no token of others"
        )
        return f"{self.rows} rows, merged by token, with {tokens}"


def union(base: Checkpoint, experts: Sequence[Checkpoint], chosen: Checkpoint) -> Union | None:
    """Returns the vocabulary of base and experts together; None where row i holds the same token in all of them, or
    nothing tells.

    Args:
        base, experts: that fit each other.
        chosen: one of them, whose tokenizer the merged model gets. A chosen one without tokenizer.json gets no further
            tokens.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be, or the chosen one's tokens have no rows.
    """
    models = [base, *experts]
    sizes = {one.name: vocabulary_rows(one.tensors) for one in models}
    counts = {name: size for name, size in sizes.items() if size}
    same = len(set(counts.values())) == 1 and all(
        same_files(base, one) or not _FILES & one.files.keys() for one in experts
    )
    if same or len(counts) < len(models):
        return None
    tables = _tables(models)
    merged = _Merged(tables[chosen.name])
    if "tokenizer.json" in chosen.files:
        for one in models:
            merged.take(tables[one.name], counts[one.name])
    tokens = {
        number: token
        for token, number in merged.ids.items()
        if any(_row(tables[name], token, count) >= 0 for name, count in counts.items())
    }
    rows = max(counts[chosen.name], max(tokens, default=-1) + 1)
    if nobody := [
        token
        for token, number in merged.ids.items()
        if counts[chosen.name] <= number < rows and tokens.get(number) != token
    ]:
        told = few([f"{shown(token)} (id {merged.ids[token]})" for token in nobody])
        advice = "correct that tokenizer, or choose another with tokenizer_from"
        raise ArtefactError(
            f'the tokenizer of "{chosen.name}" has tokens for which no checkpoint has a row: {told}; {advice}'
        )
    sources = {
        one.name: _rows(tables[one.name], counts[one.name], [tokens.get(row) for row in range(rows)]) for one in models
    }
    if (
        not merged.added
        and all(count == rows for count in counts.values())
        and all(_unmoved(found) for found in sources.values())
    ):
        return None
    return Union(sources, merged.added, frozenset(merged.renamed))


def _tables(models: Sequence[Checkpoint]) -> dict[str, Vocabulary]:
    """The vocabulary of each by its name. One without a tokenizer has the base's; pieces that no JSON lists are those
    of the first that lists them."""
    read: dict[str, Vocabulary | None] = {}
    nothing: Mapping[str, int] = {}
    for one in models:
        same = next(
            (other for other in models if other.name in read and read[other.name] and same_files(one, other)), None
        )
        read[one.name] = read[same.name] if same else read_vocabulary(one)
    pieces = next((found.pieces for found in read.values() if found), nothing)
    tables = {one.name: read[one.name] or Vocabulary(pieces, added(one)) for one in models}
    base = tables[models[0].name]
    return {
        one.name: tables[one.name] if tables[one.name].added or read[one.name] else Vocabulary(pieces, base.added)
        for one in models
    }


class _Merged:
    """A tokenizer's vocabulary, and what it is given beside."""

    def __init__(self, chosen: Vocabulary) -> None:
        self._chosen = chosen
        self.ids = dict(chosen.ids)
        self.added: dict[str, AddedToken] = {}
        self.renamed: set[str] = set()

    def take(self, other: Vocabulary, count: int) -> None:
        """Adds the tokens that another vocabulary added and this one has not, by their ids; those that have one of
        `count` rows."""
        free = {
            number: token
            for token, number in self.ids.items()
            if token in self._chosen.added and token not in self._chosen.pieces and placeholder(token)
        }
        following = max(self.ids.values(), default=-1) + 1
        for token, entry in sorted(other.added.items(), key=lambda item: item[1].id):
            known = token in self._chosen.added or token in self.added
            if known or not token or entry.id >= count or (placeholder(token) and token not in self.ids):
                continue
            number = self.ids.get(token, entry.id)
            if token not in self.ids and (kept := free.get(number)) and kept in self.ids and kept not in other.ids:
                self.renamed.add(kept)
                del self.ids[kept]
            elif token not in self.ids:
                # Numbers without a hole: the tokenizers library counts added tokens on, whatever a file says.
                number, following = following, following + 1
            self.ids[token] = number
            self.added[token] = replace(entry, id=number)


def _row(table: Vocabulary, token: str, count: int) -> int:
    """Returns a checkpoint's row for a token; -1 where it has no such token, or its embedding ends before that row."""
    row = table.ids.get(token, -1)
    return row if row < count else -1


def _rows(table: Vocabulary, count: int, tokens: Sequence[str | None]) -> Tensor:
    """Returns a checkpoint's row for each token; rows without a token, or that are kept free for one, stand for
    themselves."""
    named = set(table.ids.values())
    found = [
        table.ids[token]
        if token is not None and token in table.ids
        else row
        if row not in named and (token is None or placeholder(token))
        else -1
        for row, token in enumerate(tokens)
    ]
    return torch.tensor([row if row < count else -1 for row in found], dtype=torch.int64)


def _unmoved(rows: Tensor) -> bool:
    return bool(torch.equal(rows, torch.arange(len(rows))))


def runs(rows: Tensor) -> Iterator[slice]:
    """Yields the ranges of positions, in order, over which rows follow each other one by one, or are all -1."""
    if not len(rows):
        return
    steps = rows[1:] - rows[:-1]
    apart = torch.nonzero(~((steps == 1) & (rows[:-1] >= 0) | (rows[1:] < 0) & (rows[:-1] < 0))).flatten() + 1
    edges = [0, *cast("list[int]", cast(Any, apart).tolist()), len(rows)]
    yield from (slice(begin, end) for begin, end in pairwise(edges))
