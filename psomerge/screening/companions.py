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
from psomerge.files.untrusted import MAX_TOKENIZER, TOKENIZER_FILES, listing, read_bytes, read_json, read_start
from psomerge.screening.tokenizer_json import check_tokenizer

MAX_TEMPLATE = 2**20
"""Bytes of a chat template; the longest in use have some 50,000."""
MAX_SETTINGS = 16 * 2**20
MAX_GENERATION = 4 * 2**20
MORE_TEMPLATES = "additional_chat_templates"
"""Folder whose files transformers reads as further chat templates."""
_PIECES = re.compile(rb"\n|[A-Za-z0-9+/]+=* \d+\r?\n")
"""How a SentencePiece model (the tag of its first piece) and a tiktoken vocabulary (Base64 and a rank) begin."""
_JSON = ("special_tokens_map.json", "added_tokens.json", "vocab.json")
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
    for name in _JSON:
        if name in files:
            read_json(folder / name, MAX_TOKENIZER if name == "vocab.json" else MAX_SETTINGS)
    if "tokenizer_config.json" in files:
        _check_settings(read_json(folder / "tokenizer_config.json", MAX_SETTINGS), folder / "tokenizer_config.json")
    for name in files:
        if name.endswith(".model") and not _PIECES.match(start := read_start(folder / name, 4096)):
            raise ArtefactError(
                f"{folder / name}: expected a SentencePiece model or the ranks of a tiktoken vocabulary, found a "
                f"file that begins {start[:8]!r}; fetch it again"
            )
    if "chat_template.jinja" in files:
        _check_text(folder / "chat_template.jinja")
    if (folder / MORE_TEMPLATES).is_dir():
        for name in listing(folder / MORE_TEMPLATES):
            _check_text(folder / MORE_TEMPLATES / name)
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


def _check_text(path: Path) -> None:
    try:
        read_bytes(path, MAX_TEMPLATE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtefactError(
            f"{path}: not UTF-8 at byte {error.start}, expected a chat template; fetch the file again"
        ) from error


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
