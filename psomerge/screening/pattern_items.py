"""What a regular expression is made of: characters, classes and groups in order, with how often each may stand there.

Oniguruma's syntax as far as tokenizers use it; what it is not, the library that compiles a pattern says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

_TOKEN = re.compile(
    r"""(?P<class>\[)
    |(?P<silent>\\(?:[bBAZzGK1-9]|[kg](?:<[^>]*>|'[^']*'))|[\^$]|\(\?(?:\#[^)]*|[a-zA-Z-]*)\))
    |(?P<one>\\(?:[pPxu]\{[^}]*\}|x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}|.))
    |(?P<look>\(\?<?[=!])
    |(?P<open>\((?:\?(?:P?<\w+>|[>~|]|[a-zA-Z-]*:))?)
    |(?P<close>\))
    |(?P<choice>\|)
    |(?P<repeat>(?:[*+?]|\{(?:\d+(?:,\d*)?|,\d+)\})[+?]?)
    |(?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS = re.compile(r"\\.|[\[\]]", re.DOTALL)


@dataclass(frozen=True)
class Item:
    """A character, a class or a group of a pattern."""

    source: str = ""
    """Of a character or class; empty for a group."""
    branches: tuple[tuple["Item", ...], ...] = ()
    least: int = 1
    most: float = 1
    silent: bool = False
    """Whether it takes no text: a look around, an anchor, a reference."""


def branches_of(pattern: str) -> tuple[tuple[Item, ...], ...]:
    """Returns the choices that a pattern is made of; a bracket without its other half is passed over."""
    waiting: list[tuple[bool, list[list[Item]]]] = [(False, [[]])]
    for kind, token in _tokens(pattern):
        rows = waiting[-1][1]
        if kind in ("open", "look"):
            waiting.append((kind == "look", [[]]))
        elif kind == "close" and len(waiting) > 1:
            silent, inner = waiting.pop()
            waiting[-1][1][-1].append(Item(branches=tuple(map(tuple, inner)), silent=silent))
        elif kind == "choice":
            rows.append([])
        elif kind == "repeat" and rows[-1]:
            least, most = times(token)
            rows[-1][-1] = replace(rows[-1][-1], least=int(least), most=most)
        elif kind in ("class", "one", "plain", "silent"):
            rows[-1].append(Item(token, silent=kind == "silent"))
    return tuple(map(tuple, waiting[0][1]))


def times(repetition: str) -> tuple[float, float]:
    """Returns how often at least and at most a repetition, such as `*` or `{2,}`, lets stand what is before it."""
    if repetition[0] != "{":
        return {"*": (0, inf), "+": (1, inf), "?": (0, 1)}[repetition[0]]
    low, comma, high = repetition[1 : repetition.index("}")].partition(",")
    return float(low or 0), float(high or inf) if comma else float(low)


def _tokens(pattern: str) -> Iterator[tuple[str, str]]:
    position = 0
    while token := _TOKEN.match(pattern, position):
        kind, position = str(token.lastgroup), _class_end(pattern, token.end()) if token["class"] else token.end()
        yield kind, pattern[token.start() : position]


def _class_end(pattern: str, position: int) -> int:
    depth = 1
    for found in _IN_CLASS.finditer(pattern, position):
        depth += {"[": 1, "]": -1}.get(found.group(), 0)
        if depth == 0:
            return found.end()
    return len(pattern)
