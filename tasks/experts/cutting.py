"""Whether two tokenizers cut text alike as the installed transformers opens them: its classes make other steps of some
files than are written there, and save those."""

import json
from pathlib import Path
from typing import Any

from psomerge.checkpoint.reader import Checkpoint
from psomerge.tasks.quiet import quiet
from psomerge.vocabulary.tokenizer import meaning


def cut_alike(one: Checkpoint, other: Checkpoint) -> bool:
    """Returns whether the library opens the tokenizers of two checkpoints as the same, but for what was added."""
    opened = _opened(one.folder)
    return opened is not None and opened == _opened(other.folder)


def _opened(folder: Path) -> str | None:
    from transformers import AutoTokenizer

    try:
        with quiet("transformers"):
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            return meaning(json.loads(tokenizer.backend_tokenizer.to_str()))
    except Exception:  # whatever it stumbles over: then files are compared as they stand
        return None
