"""The tokenizer files of a merged vocabulary: the chosen checkpoint's, with the tokens that others added, flags and
all."""

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from psomerge.files.untrusted import MAX_TOKENIZER, read_json

if TYPE_CHECKING:
    from psomerge.checkpoint.reader import Checkpoint
    from psomerge.vocabulary.merged_vocabulary import Union


def merged_tokenizer(chosen: "Checkpoint", union: "Union") -> dict[str, bytes]:
    """Returns the files of the chosen checkpoint that differ from its own, by name; none where no token is added.

    Raises:
        ArtefactError: a file is damaged or larger than one can be.
    """
    if not union.added:
        return {}
    own = [{"id": one.id, "content": token} | one.flags() for token, one in union.added.items()]
    content = read_json(chosen.folder / "tokenizer.json", MAX_TOKENIZER)
    listed = cast("list[dict[str, Any]]", content.get("added_tokens") or [])
    kept = [entry for entry in listed if entry.get("content") not in union.renamed]
    content["added_tokens"] = sorted([*kept, *own], key=itemgetter("id"))
    edited = {"tokenizer.json": _json(content)}
    if "tokenizer_config.json" in chosen.files:
        settings = read_json(chosen.folder / "tokenizer_config.json", MAX_TOKENIZER)
        if isinstance(decoder := settings.get("added_tokens_decoder"), dict):
            settings["added_tokens_decoder"] = decoder | {
                str(entry["id"]): {key: entry[key] for key in entry if key != "id"} for entry in own
            }
            edited["tokenizer_config.json"] = _json(settings)
    if "added_tokens.json" in chosen.files:
        table = read_json(chosen.folder / "added_tokens.json", MAX_TOKENIZER)
        numbers = {token: one.id for token, one in union.added.items()}
        edited["added_tokens.json"] = _json(
            {token: number for token, number in table.items() if token not in union.renamed} | numbers
        )
    return edited


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
