"""The folder that vLLM starts from: configuration and tokenizer, no weights."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from psomerge.errors import ArtefactError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


def shell(folders: Mapping[str, Path], tokenizer_from: str, work: Path) -> Path:
    """Returns a new folder in `work` with the base's config.json and the tokenizer files of `tokenizer_from`.

    Raises:
        ArtefactError: a folder of that name, or its tokenizer, is missing.
    """
    if tokenizer_from not in folders:
        raise ArtefactError(f"tokenizer_from is {tokenizer_from!r}; expected one of {', '.join(folders)}")
    out = work / "shell"
    out.mkdir()
    shutil.copyfile(folders["base"] / "config.json", out / "config.json")
    found = [name for name in TOKENIZER_FILES if (folders[tokenizer_from] / name).is_file()]
    if not any(name.startswith(("tokenizer.", "vocab.")) for name in found):
        raise ArtefactError(f"{folders[tokenizer_from]}: expected a tokenizer (tokenizer.json, tokenizer.model or vocab.*), found none")
    for name in found:
        shutil.copyfile(folders[tokenizer_from] / name, out / name)
    return out
