"""What a document asks, so that one question is known under several names: its prompt without examples, whatever its
Unicode form, case and blanks."""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

GENERAL = 10
"""Documents to a prompt from which on prompts are taken to be general ("Which is right?"): what is asked is then told
by the choices too."""
_UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


def asking(task: Any) -> Callable[[Mapping[str, Any], bool], int | None]:
    """Returns the function that gives the number of what a document of a task asks, None where it asks nothing: of its
    prompt; where that is empty, or prompts are told to be general, of prompt and choices.

    A document that the task's own code cannot take asks nothing: if it is chosen, making its prompt says why.
    """

    def asked(doc: Mapping[str, Any], general: bool) -> int | None:
        try:
            text = task.doc_to_text(doc)
            if isinstance(text, str) and not general and (normal := _normal(text)):
                return _number(normal)
            choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else ()
        except Exception:  # whatever a task's template or function may raise
            return None
        found = sorted(_normal(str(one)) for one in choices) if isinstance(choices, list | tuple) else []
        return _number("\n".join([_normal(str(text)), *found]).strip())

    return asked


def is_general(asked: Sequence[int | None]) -> bool:
    """Returns whether the questions of a task's documents, by prompts alone, are too few to be what is asked."""
    known = set(asked)
    return len(asked) > GENERAL * len(known) or len(known) == 1 < len(asked)


@contextmanager
def compiled_once() -> Iterator[None]:
    """Keeps the harness, in the block, from compiling a task's template anew for each document, a millisecond each."""
    from lm_eval import utils

    compiled = cache(utils.env.from_string)

    def apply_template(template: str, doc: Mapping[str, Any]) -> str:
        return compiled(template).render(**doc)

    with patch.object(utils, "apply_template", apply_template):
        yield


def _number(normal: str) -> int | None:
    return int.from_bytes(hashlib.blake2b(normal.encode(), digest_size=8).digest()) if normal else None


def _normal(text: str) -> str:
    """A text in one form, case and kind of blanks."""
    return " ".join(_UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold().split())
