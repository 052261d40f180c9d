"""Fields of a document that are null, where the task writes them as the text "None": that is asked of no model.

A template that looks first whether there is a value (`{% if passage %}`, `{% if passage is not none %}`) is taken, and
so is a list or mapping written as Python code.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import patch

from psomerge.errors import ArtefactError
from psomerge.evals.harness.foreign import advice, excerpt
from psomerge.evals.harness.items import Items

PARTS = ("doc_to_text", "doc_to_choice", "doc_to_target", "doc_to_prefix")
"""Methods of a task that make text of a document."""
_MARK = "\ue000null\ue000"


class _Null:
    """Stands for None and is told from the text "None" once it is written."""

    def __str__(self) -> str:
        return _MARK

    def __format__(self, how: str) -> str:
        return _MARK

    def __repr__(self) -> str:
        return "None"

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Null)

    def __hash__(self) -> int:
        return hash(None)


@contextlib.contextmanager
def refusing_nulls(task: Any, items: Items) -> Iterator[None]:
    """Makes a task, in the block, raise ArtefactError for a null that it writes as text, in whatever document.

    Args:
        task: of lm-eval.
        items: that are asked; all other documents are examples.
    """
    asked = {id(doc): name for name, doc in zip(items.names, items.docs, strict=True)}
    with contextlib.ExitStack() as stack:
        for name in PARTS:
            if own := getattr(task, name, None):
                stack.enter_context(patch.object(task, name, _checked(name, own, task.OUTPUT_TYPE, asked)))
        yield


def _checked(name: str, own: Callable[..., Any], kind: str, asked: Mapping[int, str]) -> Callable[..., Any]:
    def made(doc: Any, *settings: Any, **named: Any) -> Any:
        def again(changed: Any) -> Any:
            return own(changed, *settings, **named)

        text = again(doc)
        if not isinstance(doc, Mapping):
            return text
        if text is None and name == "doc_to_target" and kind == "loglikelihood":
            nulls = ["its result"]
        elif isinstance(text, list | tuple) and any(one is None for one in text) and name == "doc_to_choice":
            nulls = [f"choice {list(text).index(None) + 1}"]
        else:
            nulls = [f"field {key!r}" for key in _written(again, text, doc)]
        if nulls:
            item = asked.get(id(doc))
            whose = "" if item else f" of the example {excerpt(doc)}"
            way_out = advice(item) if item else "correct it in the data, or what takes it in the task"
            raise ArtefactError(
                f'{nulls[0]}{whose} is null, which the task\'s {name} would write as the text "None"; {way_out}'
            )
        return text

    return made


def _written(again: Callable[[Any], Any], text: Any, doc: Mapping[str, Any]) -> list[str]:
    """The fields whose null is a part of the text that is made of a document."""
    if "None" not in (expected := _joined(text)):
        return []
    found = []
    for key, value in doc.items():
        marked = _marked(value)
        with contextlib.suppress(Exception):  # whatever a task's function may raise at what is no None
            shown = _joined(again({**doc, key: marked})) if marked is not value else ""
            if _MARK in shown and shown.replace(_MARK, "None") == expected:
                found.append(key)
    return found


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list | tuple) else str(text) if isinstance(text, str) else ""


def _marked(value: Any) -> Any:
    """The value with a mark in place of every None; itself where there is none."""
    if value is None:
        return _Null()
    if isinstance(value, Mapping):
        marked = {key: _marked(one) for key, one in value.items()}
        return marked if any(marked[key] is not one for key, one in value.items()) else value
    if isinstance(value, list):
        listed = [_marked(one) for one in value]
        return listed if any(new is not old for new, old in zip(listed, value, strict=True)) else value
    return value
