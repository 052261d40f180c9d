"""The small files beside a checkpoint's weights, looked at before any library opens them: sizes, remote code, paths
that lead away, chat templates, token ids.

That a chat template ends, or that a tokenizer is one, is not said here; `tokenizer_parts` looks for what never ends in
tokenizer.json.
"""

import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.names import PROCESSOR_FILES, TOKENIZER_FILES, is_template
from psomerge.files.untrusted import MAX_TOKENIZER, read_bytes, read_json
from psomerge.screening.pattern_time import slowness
from psomerge.screening.sentencepiece import fault_of_model
from psomerge.screening.tokenizer_json import check_tokenizer, doubt_about

MAX_TEMPLATE = 2**20
"""Bytes of a chat template; the longest in use have some 50,000."""
MAX_SETTINGS = 16 * 2**20
MAX_GENERATION = 4 * 2**20
_RANKS = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")
"""How a tiktoken vocabulary begins: Base64 and a rank."""
_JSON = tuple(
    name
    for name in TOKENIZER_FILES
    if name.endswith(".json") and name not in ("tokenizer.json", "tokenizer_config.json", "tekken.json")
)
_TEXTS = ("merges.txt", "vocab.txt", "bpe.codes", "dict.txt", "prophetnet.tokenizer")
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""-1 stands for none in old ones."""


def check_companions(folder: Path, files: Mapping[str, int]) -> None:
    """Checks the files beside the weights but config.json.

    Args:
        folder: of the checkpoint.
        files: sizes in bytes by name.

    Raises:
        ArtefactError: a file is larger than it can be, damaged, asks for remote code, names files elsewhere, or could
            keep its reader busy for ever.
    """
    for name in TOKENIZER_FILES:
        if files.get(name, 0) > MAX_TOKENIZER:
            raise ArtefactError(
                f"{folder / name}: expected at most {MAX_TOKENIZER} bytes, found {files[name]}; this is not the "
                f"{name} of a language model"
            )
    for name in sorted(files.keys() & {*_JSON, *PROCESSOR_FILES}):
        content = read_json(folder / name, MAX_TOKENIZER if "vocab" in name else MAX_SETTINGS)
        if name == "chat_template.json" or name in PROCESSOR_FILES:
            refuse_remote_code(content, folder / name)
            _check_template(content, folder / name)
    if "tokenizer_config.json" in files:
        _check_settings(read_json(folder / "tokenizer_config.json", MAX_SETTINGS), folder / "tokenizer_config.json")
    for name in files:
        if name in TOKENIZER_FILES and name.endswith((".model", ".spm")):
            _check_pieces(folder / name)
        elif name == "chat_template.jinja" or is_template(name):
            _check_text(folder / name, MAX_TEMPLATE, "a chat template")
        elif name in _TEXTS:
            _check_text(folder / name, MAX_TOKENIZER, "a tokenizer's vocabulary or merges")
    if "tekken.json" in files:
        _check_tekken(folder / "tekken.json")
    if "generation_config.json" in files:
        _check_generation(
            read_json(folder / "generation_config.json", MAX_GENERATION), folder / "generation_config.json"
        )
    if "tokenizer.json" in files:
        check_tokenizer(folder / "tokenizer.json")


def objects(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields ("", content), then every object in it at any depth with its place, such as "text_config."."""
    waiting: list[tuple[str, object]] = [("", content)]
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, dict):
            found = cast("dict[str, object]", value)
            yield prefix, found
            waiting += [(f"{prefix}{key}.", inner) for key, inner in found.items() if isinstance(inner, (dict, list))]
        elif isinstance(value, list):
            waiting += [(prefix, inner) for inner in cast("list[object]", value) if isinstance(inner, (dict, list))]


def refuse_remote_code(content: Mapping[str, Any], path: Path) -> None:
    """Raises ArtefactError if a JSON file's content, at any depth, names Python code to be fetched and run."""
    for prefix, section in objects(content):
        if "auto_map" in section:
            raise ArtefactError(
                f"{path}: asks for remote code ({prefix[:200]}auto_map), which is never run; use a checkpoint of an "
                "architecture that transformers has itself,"
                " or remove the key if it has this one"
            )


def _check_settings(settings: Mapping[str, Any], path: Path) -> None:
    refuse_remote_code(settings, path)
    for key in ("fast_tokenizer_files", "init_inputs"):
        stored: object = settings.get(key) or []
        names = cast("list[object]", stored) if isinstance(stored, list) else [stored]
        if any(not isinstance(name, str) or "/" in name or "\\" in name for name in names) or (
            names and key == "init_inputs"
        ):
            raise ArtefactError(
                f"{path}: {key} is {reprlib.repr(settings.get(key))}, which points outside the folder; remove the key"
            )
        if others := [name for name in names if name != "tokenizer.json"]:
            raise ArtefactError(
                f"{path}: {key} names {reprlib.repr(others[0])}, a tokenizer for some versions of transformers only, "
                "which is never taken along; load the tokenizer and save it anew, or remove the key"
            )
    _check_template(settings, path)


def _check_template(settings: Mapping[str, Any], path: Path) -> None:
    template: object = settings.get("chat_template")
    named = cast("list[object]", template) if isinstance(template, list) else []
    texts = [
        cast("dict[str, object]", entry).get("template") if isinstance(entry, dict) else None for entry in named
    ] or [template]
    if template is not None and not all(isinstance(text, str) and len(text) <= MAX_TEMPLATE for text in texts):
        raise ArtefactError(
            f"{path}: chat_template is {reprlib.repr(settings.get('chat_template'))}, "
            f"expected a text of at most {MAX_TEMPLATE} characters, or several with their names; correct it"
        )


def _check_text(path: Path, limit: int, what: str) -> None:
    try:
        read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtefactError(
            f"{path}: not UTF-8 at byte {error.start}, expected {what}; fetch the file again"
        ) from error


def _check_pieces(path: Path) -> None:
    content = read_bytes(path, MAX_TOKENIZER)
    if not content.startswith(b"\n") and not _RANKS.match(content[:4096]):
        raise ArtefactError(
            f"{path}: expected a SentencePiece model or the ranks of a tiktoken vocabulary, found a file that begins "
            f"{content[:8]!r}; fetch it again"
        )
    if content.startswith(b"\n") and (fault := fault_of_model(content)):
        raise ArtefactError(f"{path}: expected a SentencePiece model, found one that {fault}; fetch it again")


def _check_tekken(path: Path) -> None:
    config: object = read_json(path, MAX_TOKENIZER).get("config")
    pattern: object = cast("dict[str, object]", config).get("pattern") if isinstance(config, dict) else None
    if not isinstance(pattern, str):
        raise ArtefactError(f"{path}: expected config.pattern to be a regular expression, found {pattern!r:.80}")
    if (doubt := doubt_about(pattern)) and (slow := slowness(pattern)):
        raise ArtefactError(f"{path}: the regular expression {pattern[:80]!r} {doubt}, and {slow}; correct it")


def _check_generation(settings: Mapping[str, Any], path: Path) -> None:
    for key in _TOKEN_IDS:
        stored: object = settings.get(key)
        ids = cast("list[object]", stored) if isinstance(stored, list) else [stored]
        if stored is not None and not (
            len(ids) <= 1000 and all(type(number) is int and -1 <= number < 2**31 for number in ids)
        ):
            raise ArtefactError(
                f"{path}: {key} is {reprlib.repr(settings.get(key))}, expected the number of a token, or a list of "
                "at most 1000; correct it"
            )
