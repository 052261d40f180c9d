"""Which token has which id, by a checkpoint's files.

It reads JSON only: a vocabulary that stands in a sentencepiece model alone is left to whoever may import that library.
How text is cut is not looked at.
"""

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from psomerge.checkpoint.memo import remembered
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.names import VOCABULARY_FILES
from psomerge.files.untrusted import MAX_TOKENIZER, read_bytes, read_json

_PLACEHOLDER = re.compile(
    r"[<\[|]+_*(reserved|unused|placeholder|control|special|extra|dummy|pad)\w*?[_ ]?\d+_*[>\]|]+", re.IGNORECASE
)
"""Names of rows that a base keeps free for whoever fine-tunes it; T5's `<extra_id_0>` is none, it is trained."""


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text before it is cut into pieces; see `tokenizers.AddedToken`."""

    id: int
    special: bool = False
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = True

    def flags(self) -> dict[str, bool]:
        """Returns all but the id, by the names that tokenizer.json uses."""
        return {key: getattr(self, key) for key in ("single_word", "lstrip", "rstrip", "normalized", "special")}


@dataclass(frozen=True)
class Vocabulary:
    """A checkpoint's tokens: the pieces that text is cut into, and what was added beside them. A token may be both."""

    pieces: Mapping[str, int]
    added: Mapping[str, AddedToken]

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """Ids of all tokens; a piece's own before that of an added token of the same name."""
        return {token: one.id for token, one in self.added.items()} | dict(self.pieces)


Reader = Callable[[Checkpoint], "Vocabulary | None"]
"""Gives a checkpoint's vocabulary, None where its files do not tell it."""


def placeholder(token: str) -> bool:
    """Returns whether a token's name says that its row is kept free: `<|reserved_special_token_7|>`, `<unused3>`,
    `[control_8]`."""
    return _PLACEHOLDER.fullmatch(token) is not None and "extra_id" not in token


@remembered
def read_vocabulary(checkpoint: Checkpoint, others: Iterable[Vocabulary | None]) -> Vocabulary | None:
    """Returns the vocabulary in tokenizer.json, else vocab.json, else vocab.txt, with what added_tokens.json and
    tokenizer_config.json add; None where none is there.

    Raises:
        ArtefactError: a file is damaged or larger than one can be.
    """
    listed: dict[str, AddedToken] = {}
    if "tokenizer.json" in checkpoint.files:
        content = _json(checkpoint, "tokenizer.json")
        model: object = content.get("model")
        pieces = _pieces(cast("dict[str, Any]", model).get("vocab") if isinstance(model, dict) else None, checkpoint)
        listed = _listed(content.get("added_tokens"), checkpoint)
    elif "vocab.json" in checkpoint.files:
        pieces = _pieces(_json(checkpoint, "vocab.json"), checkpoint)
    elif "vocab.txt" in checkpoint.files:
        lines = read_bytes(checkpoint.folder / "vocab.txt", MAX_TOKENIZER).decode("utf-8").rstrip("\n").split("\n")
        pieces = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    else:
        return None
    same = next(
        (other.pieces for other in others if other and other.pieces == pieces), pieces
    )  # held once: experts mostly have their base's
    return Vocabulary(same, added(checkpoint) | listed)


def added(checkpoint: Checkpoint) -> dict[str, AddedToken]:
    """Returns the tokens that added_tokens.json and tokenizer_config.json add. Raises as `read_vocabulary`."""
    found: dict[str, AddedToken] = {}
    if "added_tokens.json" in checkpoint.files:
        found = {
            token: AddedToken(number)
            for token, number in _pieces(_json(checkpoint, "added_tokens.json"), checkpoint).items()
        }
    if "tokenizer_config.json" in checkpoint.files:
        table: object = _json(checkpoint, "tokenizer_config.json").get("added_tokens_decoder")
        entries = cast("dict[str, Any]", table) if isinstance(table, dict) else {}
        rows: list[dict[str, Any]] = [
            entry | {"id": int(number)}
            for number, entry in entries.items()
            if number.isdecimal() and isinstance(entry, dict)
        ]
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
        pairs = (
            list(cast("dict[object, object]", vocabulary or {}).items())
            if isinstance(vocabulary, dict | None)
            else [(None, None)]
        )
    if not all(isinstance(token, str) and type(number) is int and 0 <= number < 2**31 for token, number in pairs):
        raise ArtefactError(
            f'"{checkpoint.name}" ({checkpoint.folder}): expected a vocabulary of texts with whole-number ids; fetch '
            "its tokenizer again"
        )
    return cast("dict[str, int]", dict(pairs))


def _listed(entries: object, checkpoint: Checkpoint) -> dict[str, AddedToken]:
    rows = cast("list[object]", entries) if isinstance(entries, list) else []
    objects = {
        row.get("content"): row for row in (cast("dict[str, Any]", row) for row in rows if isinstance(row, dict))
    }
    ids = _pieces({content: row.get("id") for content, row in objects.items()}, checkpoint)
    # Source: tokenizers, AddedToken's constructor: what is special is not normalised unless it says so.
    plain = {token: AddedToken(0, normalized=not objects[token].get("special", False)).flags() for token in ids}
    return {
        token: AddedToken(ids[token], **{key: bool(objects[token].get(key, value)) for key, value in flags.items()})
        for token, flags in plain.items()
    }


def same_files(a: Checkpoint, b: Checkpoint) -> bool:
    """Returns whether two checkpoints have one vocabulary, as equal bytes tell without parsing them. Raises as
    `read_vocabulary`."""
    ours, theirs = ({name: one.files[name] for name in VOCABULARY_FILES if name in one.files} for one in (a, b))
    return (
        ours == theirs
        and all(
            read_bytes(a.folder / name, MAX_TOKENIZER) == read_bytes(b.folder / name, MAX_TOKENIZER) for name in ours
        )
        and added(a) == added(b)
    )


def shown(token: str) -> str:
    """Returns a token for a message: quoted, cut where it is long."""
    return reprlib.repr(token)


def few(lines: list[str], most: int = 3) -> str:
    """Returns the first few of a list for a message, and the number of all where there are more."""
    return ", ".join(lines[:most]) + (f", ... ({len(lines)} in all)" if len(lines) > most else "")
