"""What a tokenizer.json makes its reader do to every text: regular expressions that take exponential time, and
steps that make a text longer and longer.

Vocabulary and merges are not looked at, nor whether the parts are known: the library that opens the file says so.
"""

import math
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.untrusted import MAX_TOKENIZER, parse_object, read_bytes
from psomerge.screening.charsmap import is_sound
from psomerge.screening.pattern_items import times
from psomerge.screening.pattern_time import slowness

MAX_GROWTH = 100
"""Times that the replacements of a normalizer may lengthen a text, all of them together."""
MAX_PATTERN = 10_000
MAX_OPEN = 3
"""Repetitions without an end in one branch of a pattern: each may try every length, so that the time is a power of the
text's length. In use are two."""
MANY = 100
"""Times from which a repetition counts as one without an end."""
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_TOKEN = re.compile(
    r"""(?P<escape>\\(?:[pP]\{[^}]*\}|[kg][<'][^>']*[>']|.))
    |(?P<open>\((?:\?(?:\#|~|\(|R|>|<?[=!]|<[A-Za-z_]\w*>|P<\w+>|[a-zA-Z-]*[:)]|))?)
    |(?P<close>\))
    |(?P<repeat>(?:[*+?]|\{(?:\d+(?:,\d*)?|,\d+)\})[+?]?)
    |(?P<choice>\|)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_UNUSUAL = re.compile(r"\\[1-9kg].*|\(\?(\#|~|\(|R|P<.*|[a-zA-Z-]*x.*|)", re.DOTALL)
"""References to what was found before, calls, conditions, comments: what they take cannot be told from the pattern."""
_seen: set[bytes] = set()
"""Digests of what was found sound: experts of one base mostly bring its tokenizer along."""


def check_tokenizer(path: Path) -> None:
    """Checks a tokenizer.json.

    Raises:
        ArtefactError: it is damaged or larger than one can be, or has a regular expression or a step that could keep
            its reader busy for ever.
    """
    content = read_bytes(path, MAX_TOKENIZER)
    digest = sha256(content).digest()
    if digest in _seen:
        return
    data = parse_object(content, str(path))
    for part in _PARTS:
        for step in _objects(data.get(part)):
            pattern = step.get("Regex")
            if isinstance(pattern, str) and (doubt := doubt_about(pattern)) and (slow := slowness(pattern)):
                raise ArtefactError(
                    f"{path}: the regular expression {pattern[:80]!r} of its {part} {doubt}, and {slow}; correct it"
                )
            table: object = step.get("precompiled_charsmap")
            if table is not None and not (isinstance(table, str) and is_sound(table)):
                raise ArtefactError(
                    f"{path}: the table of replacements of its {part} (precompiled_charsmap) is damaged; fetch the "
                    "file again"
                )
            ids: object = step.get("ids")
            if isinstance(ids, list) and len(cast("list[object]", ids)) > MANY:
                raise ArtefactError(f"{path}: its {part} adds more than {MANY} tokens to every text; correct it")
    growth = math.prod(map(_growth, _objects(data.get("normalizer"))))
    if growth > MAX_GROWTH:
        raise ArtefactError(
            f"{path}: its normalizer makes a text up to {growth:.3g} times as long, expected at most {MAX_GROWTH}; "
            "correct it"
        )
    _seen.add(digest)


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield cast("dict[str, object]", found)
            waiting += cast("dict[str, object]", found).values()
        elif isinstance(found, list):
            waiting += cast("list[object]", found)


def _growth(step: Mapping[str, Any]) -> float:
    """Returns how many times longer a step can make a long text."""
    text: object = step.get("content")
    if step.get("type") != "Replace" or not isinstance(text, str):
        return 1.0
    pattern: object = step.get("pattern")
    plain: object = cast("dict[str, object]", pattern).get("String") if isinstance(pattern, dict) else None
    return max(1.0, len(text) / (len(plain) or 0.5) if isinstance(plain, str) else float(len(text)))


def doubt_about(pattern: str) -> str:
    """Returns what may make a regular expression take more than a small power of a text's length; empty if nothing.

    A bound: a repeated group may hold neither a choice nor a repetition of varying length, unless it cannot be gone
    back into (`(?>...)`, `++`). Much that goes beyond it is quick all the same, which `slowness` tells.
    """
    if len(pattern) > MAX_PATTERN:
        return f"has {len(pattern)} characters"
    plain, classes = _without_classes(pattern)
    if not classes:
        return "has a class without an end"
    groups = [_Group()]
    last: _Group | None = None
    for token in _TOKEN.finditer(plain):
        kind, text = str(token.lastgroup), token.group()
        if _UNUSUAL.fullmatch(text):
            return "uses more than characters, groups, choices and repetitions"
        if kind == "open" and not text.endswith(")"):
            groups.append(_Group(atomic=text == "(?>"))
        elif kind == "close" and len(groups) > 1:
            last = groups.pop()
            groups[-1].take(last)
            continue
        elif kind == "choice":
            groups[-1].choose()
        elif kind == "repeat" and (fault := groups[-1].repeat(text, last)):
            return fault
        last = None
    return ""


class _Group:
    """What was seen between a bracket and its end: `varies` whether it can match one text in several ways, `ends` its
    repetitions without an end."""

    def __init__(self, *, atomic: bool = False) -> None:
        self.atomic, self.varies, self.ends = atomic, False, 0
        self._most = 0

    def take(self, inner: "_Group") -> None:
        self.varies |= inner.varies and not inner.atomic
        self.ends += 0 if inner.atomic else max(inner.ends, inner._most)

    def choose(self) -> None:
        self.varies, self._most, self.ends = True, max(self._most, self.ends), 0

    def repeat(self, text: str, group: "_Group | None") -> str:
        """Counts a repetition of what stands before it, `group` if that is one; returns what is wrong with it."""
        low, high = times(text)
        possessive = len(text) > 1 and text[0] in "*+?" and text.endswith("+")
        if group is not None and high > 1 and group.varies and not group.atomic and not possessive:
            return "repeats a group that can match one text in several ways"
        if low > MANY or MANY < high < math.inf:
            return f"repeats something more than {MANY} times"
        if not possessive:
            self.varies |= low != high
            self.ends += high == math.inf
        return f"has more than {MAX_OPEN} repetitions without an end in a row" if self.ends > MAX_OPEN else ""


def _without_classes(pattern: str) -> tuple[str, bool]:
    """Returns a pattern with `.` in place of each class in square brackets, which may hold others; and whether all of
    them end."""
    kept: list[str] = []
    depth, position = 0, 0
    while position < len(pattern):
        step = 2 if pattern[position] == "\\" else 1
        text = pattern[position : position + step]
        if text == "[":
            kept += ["."] if depth == 0 else []
            depth += 1
        elif text == "]" and depth:
            depth -= 1
        elif depth == 0:
            kept.append(text)
        position += step
    return "".join(kept), depth == 0
