"""The special tokens that a checkpoint's files name: bos, eos, pad and unk, by token and by id.

Which of them ends a text or pads a batch is decided by `tokenizer_from`; instruction-tuned models change both. What no
choice can mend is an id that means two tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from psomerge.checkpoint.config import MAX_CONFIG, sections
from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.untrusted import MAX_TOKENIZER, read_json
from psomerge.vocabulary.tokens import shown

ROLES = ("bos", "eos", "pad", "unk")


@dataclass(frozen=True)
class Special:
    """What a checkpoint says of one role; either may be unsaid."""

    token: str | None
    ids: frozenset[int]

    def __str__(self) -> str:
        numbers = ", ".join(map(str, sorted(self.ids)))
        if self.token is None:
            return f"id {numbers}" if numbers else "none"
        return shown(self.token) + (f" (id {numbers})" if numbers else "")


def special_tokens(checkpoint: Checkpoint) -> dict[str, Special]:
    """Returns what the files say of each of ROLES: tokenizer_config.json, special_tokens_map.json, config.json and
    generation_config.json.

    Raises:
        ArtefactError: a file is damaged or larger than one can be.
    """
    tokenizer = _read(checkpoint, "special_tokens_map.json", MAX_TOKENIZER) | _read(
        checkpoint, "tokenizer_config.json", MAX_TOKENIZER
    )
    configs = [section for _, section in sections(checkpoint.config)] + [
        _read(checkpoint, "generation_config.json", MAX_CONFIG)
    ]
    return {role: Special(_token(tokenizer.get(f"{role}_token")), _ids(configs, f"{role}_token_id")) for role in ROLES}


def _read(checkpoint: Checkpoint, name: str, limit: int) -> dict[str, Any]:
    content = read_json(checkpoint.folder / name, limit) if name in checkpoint.files else {}
    return {key: value for key, value in content.items() if value is not None}


def _token(value: object) -> str | None:
    content = cast("dict[str, object]", value).get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _ids(configs: list[Mapping[str, Any]], key: str) -> frozenset[int]:
    """Ids of all configs together; -1 is older Llamas' way to say none."""
    values = [config.get(key) for config in configs]
    numbers = [
        number for value in values for number in (cast("list[object]", value) if isinstance(value, list) else [value])
    ]
    return frozenset(number for number in numbers if type(number) is int and number >= 0)


def special_misfits(
    base: Mapping[str, Special], expert: Mapping[str, Special], *, named: bool, rows: int | None
) -> Iterator[str]:
    """Yields what contradicts between base and expert, e.g. `unk token '<unk>', the base '[UNK]'`.

    Args:
        base, expert: of `special_tokens`.
        named: whether both vocabularies are known, so that tokens and ids were compared there.
        rows: of the base's embedding, None if not known.
    """
    for role in ROLES:
        ours, theirs = base[role], expert[role]
        spoken = ours.token is not None and theirs.token is not None
        if spoken and ours.token != theirs.token and (role == "unk" or (not named and ours.ids & theirs.ids)):
            yield (
                f"has {role} token {theirs}, the base {ours}; write the base's into its tokenizer_config.json if it "
                "was trained with that, else leave it out"
            )
        elif (
            spoken
            and not named
            and ours.token == theirs.token
            and ours.ids
            and theirs.ids
            and not ours.ids & theirs.ids
        ):
            yield (
                f"has {role} token {theirs}, the base {ours}; one token must have one id: correct its config.json, "
                "or leave it out"
            )
        if rows is not None and (beyond := sorted(number for number in theirs.ids if number >= rows)):
            yield (
                f"has {role}_token_id {beyond[0]}, expected less than the {rows} rows of the base's vocabulary; "
                "correct its configs"
            )
