"""What a checkpoint's tokenizer files say, as far as merging must know: whether two are the same, and whether there is
a chat template."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, cast

from psomerge.checkpoint.memo import remembered
from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.names import VOCABULARY_FILES
from psomerge.files.untrusted import MAX_TOKENIZER, parse_object, read_bytes, read_json
from psomerge.vocabulary.tokens import AddedToken, read_vocabulary

EXPECTED = f"a file such as {', '.join(VOCABULARY_FILES[:6])}"
"""What a checkpoint with a tokenizer has."""
WITHOUT_TOKENIZER = (
    "no text can be cut into tokens for it, so that it can be merged but neither judged nor used; put the tokenizer's "
    "files of the model that it was trained from into its folder"
)
"""What it means that a checkpoint has none, and what to do."""
_VOCABULARIES = (*VOCABULARY_FILES, "merges.txt", "bpe.codes", "target.spm", "added_tokens.json")
_OF_BYTES = ("ByT5Tokenizer",)
"""Classes that need no vocabulary: every byte is a token."""
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_CUTTING = (
    *("add_bos_token", "add_eos_token", "add_prefix_space", "add_dummy_prefix", "legacy", "sp_model_kwargs"),
    *(
        "do_lower_case",
        "do_lowercase",
        "lowercase",
        "do_basic_tokenize",
        "never_split",
        "strip_accents",
        "keep_accents",
    ),
    *("tokenize_chinese_chars", "remove_space", "normalization", "byte_fallback", "from_slow", "split_special_tokens"),
    *("src_lang", "tgt_lang", "source_lang", "target_lang", "language", "task", "predict_timestamps"),
)
"""Settings of tokenizer_config.json by which classes cut otherwise, or put other tokens around a text."""
_PER_CALL = ("version", "truncation", "padding")
"""Parts of tokenizer.json that a call may set and a trainer often leaves behind; they change no token."""


def tokenizers_differ(a: Checkpoint, b: Checkpoint) -> bool:
    """Returns whether two checkpoints cut text differently, as far as their files tell; one without any tokenizer file
    differs from none.

    Tokens that only one of them added to its tokenizer.json are no difference: a merged tokenizer has them all. Which
    settings beside the vocabulary a class heeds knows its library; here all that some class heeds are a difference.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    ours, theirs = ({name for name in _VOCABULARIES if name in checkpoint.files} for checkpoint in (a, b))
    if not ours or not theirs:
        return False
    if _cutting(a) != _cutting(b):
        return True
    if "tokenizer.json" in ours & theirs:
        return _differ(a, b, "tokenizer.json") and (
            _meaning(a) != _meaning(b) or bool(differing_flags(_added(a), _added(b)))
        )
    return ours != theirs or any(_differ(a, b, name) for name in ours)


def _cutting(checkpoint: Checkpoint) -> dict[str, Any]:
    """What tokenizer_config.json says of how text is cut; the class too, where there is no tokenizer.json that does."""
    name = "tokenizer_config.json"
    said = read_json(checkpoint.folder / name, MAX_TOKENIZER) if name in checkpoint.files else {}
    found = {key: said[key] for key in _CUTTING if said.get(key) is not None}
    if "tokenizer.json" not in checkpoint.files:
        found["tokenizer_class"] = str(said.get("tokenizer_class")).removesuffix("Fast")
    return found


def differing_flags(ours: Mapping[str, AddedToken], theirs: Mapping[str, AddedToken]) -> list[str]:
    """Returns the tokens that two tokenizers both added, but not to be found in the same way: one as special, say."""
    return [token for token, one in ours.items() if token in theirs and theirs[token].flags() != one.flags()]


def _added(checkpoint: Checkpoint) -> Mapping[str, AddedToken]:
    return found.added if (found := read_vocabulary(checkpoint)) else {}


def _differ(a: Checkpoint, b: Checkpoint, name: str) -> bool:
    return read_bytes(a.folder / name, MAX_TOKENIZER) != read_bytes(b.folder / name, MAX_TOKENIZER)


@remembered
def _meaning(checkpoint: Checkpoint, others: Iterable[str]) -> str:
    path = checkpoint.folder / "tokenizer.json"
    return meaning(parse_object(read_bytes(path, MAX_TOKENIZER), str(path)))


def meaning(content: Mapping[str, Any]) -> str:
    """Returns a digest of the content of a tokenizer.json without what was added, equal for two spellings of the same
    tokenizer: versions of the library write merges as pairs or texts, what is nothing as null or as nothing, and steps
    at the end that add no token."""
    told = {key: value for key, value in content.items() if key not in (*_PER_CALL, "added_tokens", "post_processor")}
    if isinstance(content.get("model"), dict):
        model = cast("dict[str, Any]", content["model"])
        model = {key: value for key, value in model.items() if value not in (None, False, "")}
        if isinstance(model.get("merges"), list):
            model["merges"] = [
                " ".join(map(str, cast("list[object]", merge))) if isinstance(merge, list) else merge
                for merge in model["merges"]
            ]
        if model.get("byte_fallback") and isinstance(model.get("vocab"), dict) and model["vocab"].keys() >= _BYTES:
            model.pop("unk_token", None)  # nothing is unknown where every byte has a token
        told["model"] = model
    told["post_processor"] = _adding(content.get("post_processor"))
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _adding(step: object) -> list[object]:
    """The steps of a post-processor that add a token; the others say where in the text a token stands."""
    if not isinstance(step, dict):
        return [] if step is None else [step]
    found = cast("dict[str, Any]", step)
    if found.get("type") == "Sequence" and isinstance(found.get("processors"), list):
        return [one for inner in found["processors"] for one in _adding(inner)]
    if found.get("type") == "TemplateProcessing":
        pieces = cast("list[object]", [*(found.get("single") or []), *(found.get("pair") or [])])
        return [] if all(isinstance(piece, dict) and "Sequence" in piece for piece in pieces) else [found]
    return [] if found.get("type") == "ByteLevel" else [found]


def has_chat_template(checkpoint: Checkpoint) -> bool:
    """Returns whether a checkpoint says how a conversation is written: chat_template.jinja, or the same in
    tokenizer_config.json."""
    if "chat_template.jinja" in checkpoint.files:
        return True
    name = "tokenizer_config.json"
    return name in checkpoint.files and bool(read_json(checkpoint.folder / name, MAX_TOKENIZER).get("chat_template"))


def has_tokenizer(checkpoint: Checkpoint) -> bool:
    """Returns whether a checkpoint brings a tokenizer of its own: a vocabulary, or the name of a class that needs none;
    an adapter may leave it to its base."""
    if any(name in checkpoint.files for name in VOCABULARY_FILES):
        return True
    name = "tokenizer_config.json"
    return (
        name in checkpoint.files
        and read_json(checkpoint.folder / name, MAX_TOKENIZER).get("tokenizer_class") in _OF_BYTES
    )
