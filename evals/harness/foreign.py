"""Code that is a task's own: whatever it raises becomes one line that names the item it could not take."""

import contextlib
import io
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from psomerge.errors import ArtefactError, PsomergeError, ServiceError
from psomerge.evals.harness.items import identity

_CORRECT = "correct it in the data, or what takes it in the task"
MOST = 8
"""Items that are named in one message."""
_NAMES = ("doc", "test_doc", "fs_doc")
"""What the harness calls a document in its own functions."""


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Puts suite and benchmark before the text of a PsomergeError that does not name them."""
    try:
        yield
    except PsomergeError as error:
        raise type(error)(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


@contextlib.contextmanager
def foreign_code(where: str, doing: str) -> Iterator[None]:
    """Runs a task's own functions and templates: whatever they raise becomes one line, and their progress bars and
    advice stay off the screen.

    Args:
        where: suite and benchmark, for the error's text.
        doing: what cannot be done when it fails, e.g. "make its prompts".

    Raises:
        ServiceError: on a ConnectionError; PsomergeError: of its own class, with `where` before it; ArtefactError: on
            all else, with the document that was in hand.
    """
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with naming(where), contextlib.redirect_stderr(io.StringIO()):
            yield
    except PsomergeError:
        raise
    except ConnectionError as error:
        raise ServiceError(f"{where}: cannot {doing}, a server did not answer: {one_line(error)}") from error
    except Exception as error:
        raise ArtefactError(
            f"{where}: cannot {doing}: {type(error).__name__}: {one_line(error)}{_of(error)}"
        ) from error
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def of_item(name: str, doc: Mapping[str, Any], doing: str) -> Iterator[None]:
    """Runs a task's own functions on one item; whatever they raise names it.

    Args:
        name: of the item, in the suite.
        doc: its document.
        doing: what cannot be done when it fails.

    Raises:
        PsomergeError: of its own class, with the item before it; ArtefactError: on all else.
    """
    try:
        yield
    except PsomergeError as error:
        raise type(error)(f"item {name} ({excerpt(doc)}): {error}") from error
    except ConnectionError:
        raise
    except Exception as error:
        raise ArtefactError(
            f"item {name} ({excerpt(doc)}): cannot {doing}: {type(error).__name__}: {one_line(error)}; {advice(name)}"
        ) from error


def over_items(
    names: Sequence[str], docs: Sequence[Mapping[str, Any]], doing: str, do: Callable[[int], object]
) -> None:
    """Runs a task's own functions on the items at places 0, 1, ...; what they raise is raised as by `of_item`, and
    names the first MOST items that it is raised for.

    Args:
        names: of the items.
        docs: their documents.
        doing: what cannot be done when it fails.
        do: given an item's place.
    """
    failed: list[tuple[str, ArtefactError]] = []
    for place, (name, doc) in enumerate(zip(names, docs, strict=True)):
        try:
            with of_item(name, doc, doing):
                do(place)
        except ArtefactError as error:
            failed.append((name, error))
            if len(failed) == MOST:
                break
    if len(failed) == 1:
        raise failed[0][1]
    if failed:
        others = [name for name, _ in failed[1:]]
        least = "at least " if len(failed) == MOST else ""
        raise ArtefactError(f"{failed[0][1]}; {least}{len(others)} more items fail: {', '.join(others)}") from failed[
            0
        ][1]


def advice(*names: str) -> str:
    """Returns what to do about items that are faulty, by name."""
    return f"{_CORRECT}, or leave it out by `leave_out: [{', '.join(names)}]` in the suite's entry"


def one_line(error: BaseException) -> str:
    """Text of an error of foreign code, without line breaks, 300 characters at most."""
    return " ".join(str(error).split())[:300]


def excerpt(doc: Mapping[str, Any], most: int = 100) -> str:
    """Returns the begin of a document in one line, to find it in the data."""
    text = " ".join(json.dumps(dict(doc), ensure_ascii=False, default=str).split())
    return text if len(text) <= most else f"{text[:most]}..."


def _of(error: BaseException) -> str:
    """The document that was in hand when a task's code failed, from the innermost call outwards; nothing where there
    was none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        if (doc := _document(frame)) is not None:
            return (
                f", of item {identity(doc)} ({excerpt(doc)}); {_CORRECT}, or leave it out in the task's `process_docs`"
            )
    if any(_is_empty(frame.f_locals.get("self")) for frame in frames):
        return "; its data have no items: expected at least one in the split that it is tested on"
    return ""


def _document(frame: FrameType) -> dict[str, Any] | None:
    module = str(frame.f_globals.get("__name__"))
    # A task's module is called by its path or, of the harness's own, by the package's name for it.
    own = "/" in module or (module.startswith("lm_eval.tasks.") and "._" not in module)
    for name in (*_NAMES, *(frame.f_code.co_varnames[:1] if own else ())):
        found = frame.f_locals.get(name)
        if found and (isinstance(found, dict) or type(found).__module__.startswith("datasets.")):
            with contextlib.suppress(Exception):  # whatever is called so and is no document
                return {str(key): value for key, value in found.items()}
    return None


def _is_empty(task: Any) -> bool:
    try:
        return len(task.task_docs) == 0
    except (AttributeError, TypeError):
        return False
