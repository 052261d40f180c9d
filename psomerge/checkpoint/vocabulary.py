"""Which token has which id, by a checkpoint's files, and how two such vocabularies lie to each other.

It reads JSON only: a vocabulary that stands in a sentencepiece model alone is left to whoever may import that library. How text is cut is not looked at.
"""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files import MAX_TOKENIZER, read_bytes, read_json

Reader = Callable[[Checkpoint], "Mapping[str, int] | None"]
"""Gives a checkpoint's ids by token, None where its files do not tell them."""

_MAIN = ("tokenizer.json", "tokenizer.model", "vocab.json")
_PLACEHOLDER = re.compile(r"[<\[|]+_*(reserved|unused|placeholder|control|special|extra|dummy|pad)\w*?[_ ]?\d+_*[>\]|]+", re.IGNORECASE)
"""Names of rows that a base keeps free for whoever fine-tunes it; T5's `<extra_id_0>` is none, it is trained."""


@dataclass(frozen=True)
class Comparison:
    """How an expert's vocabulary lies to the base's; every token of either stands in exactly one of the first four."""

    common: int
    """Tokens with the same id in both."""
    moved: Mapping[str, tuple[int, int]]
    """Ids in base and expert of tokens that both have under different ids: a conflict."""
    only_base: Mapping[str, int]
    only_expert: Mapping[str, int]
    renamed: Mapping[int, tuple[str, str]]
    """Tokens of base and expert under an id that means one token in each: a conflict."""

    def filled(self) -> dict[str, int]:
        """Returns the expert's own tokens on rows that the base keeps free for such."""
        return {theirs: number for number, (ours, theirs) in self.renamed.items() if theirs in self.only_expert and placeholder(ours)}

    def conflicts(self) -> list[str]:
        """Returns what contradicts, in words, e.g. `token 'a' has id 5, in the base 3`; rows that the base keeps free are no contradiction."""
        filled = self.filled()
        moved = [f"token {shown(token)} has id {theirs}, in the base {ours}" for token, (ours, theirs) in self.moved.items()]
        return moved + [
            f"id {number} is token {shown(theirs)}, in the base {shown(ours)}" for number, (ours, theirs) in self.renamed.items() if theirs not in filled
        ]


def placeholder(token: str) -> bool:
    """Returns whether a token's name says that its row is kept free: `<|reserved_special_token_7|>`, `<unused3>`, `[control_8]`."""
    return _PLACEHOLDER.fullmatch(token) is not None and "extra_id" not in token


def read_vocabulary(checkpoint: Checkpoint) -> dict[str, int] | None:
    """Returns ids by token from tokenizer.json, else vocab.json, with what added_tokens.json and tokenizer_config.json add; None where neither is there.

    Raises:
        ArtefactError: a file is damaged or larger than one can be.
    """
    if "tokenizer.json" in checkpoint.files:
        content = _json(checkpoint, "tokenizer.json")
        model: object = content.get("model")
        found = _pieces(cast("dict[str, Any]", model).get("vocab") if isinstance(model, dict) else None, checkpoint)
        found |= _listed(content.get("added_tokens"), checkpoint)
    elif "vocab.json" in checkpoint.files:
        found = _pieces(_json(checkpoint, "vocab.json"), checkpoint)
    else:
        return None
    return found | added(checkpoint)


def added(checkpoint: Checkpoint) -> dict[str, int]:
    """Returns ids of the tokens that added_tokens.json and tokenizer_config.json add. Raises as `read_vocabulary`."""
    found = _pieces(_json(checkpoint, "added_tokens.json"), checkpoint) if "added_tokens.json" in checkpoint.files else {}
    if "tokenizer_config.json" in checkpoint.files:
        table: object = _json(checkpoint, "tokenizer_config.json").get("added_tokens_decoder")
        entries = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
        rows: list[dict[str, Any]] = [entry | {"id": int(number)} for number, entry in entries.items() if number.isdecimal() and isinstance(entry, dict)]
        found |= _listed(rows, checkpoint)
    return found


def _json(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    return read_json(checkpoint.folder / name, MAX_TOKENIZER)


def _pieces(vocabulary: object, checkpoint: Checkpoint) -> dict[str, int]:
    """Ids of a vocabulary as tokenizers write it: an object of ids, or a list of [piece, score] in their order."""
    if isinstance(vocabulary, list):
        rows = cast("list[object]", vocabulary)
        pieces = [cast("list[object]", row)[0] if isinstance(row, list) and row else None for row in rows]
        pairs: list[tuple[object, object]] = [(piece, number) for number, piece in enumerate(pieces)]
    else:
        pairs = list(cast("dict[object, object]", vocabulary or {}).items()) if isinstance(vocabulary, dict | None) else [(None, None)]
    if not all(isinstance(token, str) and type(number) is int for token, number in pairs):
        raise ArtefactError(f'"{checkpoint.name}" ({checkpoint.folder}): expected a vocabulary of texts with whole-number ids; fetch its tokenizer again')
    return cast("dict[str, int]", dict(pairs))


def _listed(entries: object, checkpoint: Checkpoint) -> dict[str, int]:
    rows = cast("list[object]", entries) if isinstance(entries, list) else []
    objects = [cast("dict[str, Any]", row) for row in rows if isinstance(row, dict)]
    return _pieces({row.get("content"): row.get("id") for row in objects}, checkpoint)


def same_files(a: Checkpoint, b: Checkpoint) -> bool:
    """Returns whether two checkpoints have one vocabulary, as equal bytes tell without parsing them. Raises as `read_vocabulary`."""
    ours, theirs = ({name: one.files[name] for name in _MAIN if name in one.files} for one in (a, b))
    return (
        ours == theirs
        and all(read_bytes(a.folder / name, MAX_TOKENIZER) == read_bytes(b.folder / name, MAX_TOKENIZER) for name in ours)
        and added(a) == added(b)
    )


def compare(base: Mapping[str, int], expert: Mapping[str, int]) -> Comparison:
    """Returns how two vocabularies, ids by token, lie to each other."""
    only_base = {token: number for token, number in base.items() if token not in expert}
    only_expert = {token: number for token, number in expert.items() if token not in base}
    moved = {token: (number, expert[token]) for token, number in base.items() if token in expert and expert[token] != number}
    renamed: dict[int, tuple[str, str]] = {}
    if only_base or only_expert:
        ours, theirs = ({number: token for token, number in one.items()} for one in (base, expert))
        # A token that moved is a conflict already; what stands on its old or new row is not told again.
        renamed = {number: (ours[number], token) for token, number in only_expert.items() if number in ours and ours[number] not in moved}
        for token, number in only_base.items():
            if number not in renamed and theirs.get(number) not in (None, *moved):
                renamed[number] = (token, theirs[number])
    return Comparison(len(base) - len(only_base) - len(moved), moved, only_base, only_expert, renamed)


def between(own: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yields where experts contradict each other in tokens that the base has not.

    Args:
        own: by expert, ids of the tokens that only it and not the base has (`Comparison.only_expert`).
    """
    by_token: dict[str, tuple[str, int]] = {}
    by_id: dict[int, tuple[str, str]] = {}
    for expert, tokens in own.items():
        for token, number in tokens.items():
            first, other = by_token.setdefault(token, (expert, number))
            if other != number:
                yield f'expert "{expert}" has token {shown(token)} under id {number}, expert "{first}" under {other}; leave one of the two out'
                continue
            first, named = by_id.setdefault(number, (expert, token))
            if named != token:
                yield f'expert "{expert}" has token {shown(token)} under id {number}, where expert "{first}" has {shown(named)}; leave one of the two out'


def shown(token: str) -> str:
    """Returns a token for a message: quoted, cut where it is long."""
    return reprlib.repr(token)


def few(lines: list[str], most: int = 3) -> str:
    """Returns the first few of a list for a message, and the number of all where there are more."""
    return ", ".join(lines[:most]) + (f", ... ({len(lines)} in all)" if len(lines) > most else "")
