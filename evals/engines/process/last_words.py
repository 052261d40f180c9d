"""What an engine's process said of the reason why it ended: its exception, not whatever stands last in the log."""

import re
from itertools import pairwise

MOST = 300
"""Characters of it."""
_PREFIX = re.compile(r"^(\([\w-]+ pid=\d+\) ?)?((ERROR|INFO|WARNING) [\d-]+ [\d:.,]+ \[[^\]]*\] ?)?")
"""How vLLM's log begins a line: process, level, time and place."""
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"[A-Za-z_][\w.]*(: .*|:|)")
"""The line of an exception below its traceback: its class, and mostly what it says."""
_LONE = re.compile(r"([A-Za-z_][\w.]*(Error|Exception): |Fatal Python error: |terminate called after |panicked at ).*")
"""A reason that stands without a traceback."""
_POINTS_UP = re.compile(r"\babove\b|\bsee (the )?(log|stack trace|traceback)", re.IGNORECASE)
"""What says only that the reason stands elsewhere."""
_NO_REASON = re.compile(r"\s*For further information visit ")


def last_words(said: str) -> str:
    """Returns what a process gave as the reason of its end, in one line: the last exception that does not only point to
    another, else a line that reads like one, else its last line; empty where it said nothing.

    Args:
        said: standard output and error of the process.
    """
    lines = [_PREFIX.sub("", line).rstrip() for line in said.splitlines()]
    raised = [
        text for number, line in enumerate(lines) if line.strip() == _TRACEBACK for text in [_raised(lines, number)]
    ]
    telling = [text for text in raised if text and not _POINTS_UP.search(text)]
    lone = [line.strip() for line in lines if _LONE.search(line) and not _POINTS_UP.search(line)]
    rest = [line.strip() for line in lines if line.strip() and not _NO_REASON.match(line)]
    found = next((some[-1] for some in (telling, lone, rest) if some), "")
    return found if len(found) <= MOST else f"{found[: MOST - 3]}..."


def _raised(lines: list[str], number: int) -> str:
    """Returns the exception of the traceback that begins at a line: its class and text, the text's own lines joined;
    empty where it was cut off."""
    depth = len(lines[number]) - len(lines[number].lstrip())
    for place in range(number + 1, len(lines)):
        line = lines[place][depth:]
        if line[:1].strip():
            break
    else:
        return ""
    if not _RAISED.fullmatch(line):
        return ""
    text, following = [line], [*lines[place + 1 :], ""]
    # A text of several lines is indented, but for headings of what is.
    for more, after in pairwise(following):
        if not more.strip() or not (more[depth : depth + 1].isspace() or after[depth : depth + 1].isspace()):
            break
        if not _NO_REASON.match(more):
            text.append(more.strip())
    return " ".join(text)
