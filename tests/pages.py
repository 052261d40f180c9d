"""The blocks of a page in Markdown, as a reader copies them."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """A block of code."""

    language: str
    """After the fence; empty for an indented block."""
    text: str
    name: str
    """The file that the text before it names last, in backticks; empty if there is none."""


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page, in order."""
    found: list[Block] = []
    before, lines = "", iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("```"):
            inside: list[str] = []
            for inner in lines:
                if inner.startswith("```"):
                    break
                inside.append(inner)
            found.append(Block(line.removeprefix("```").strip(), "\n".join(inside) + "\n", _named(before)))
            before = ""
        elif line.startswith("    ") and not before.strip().endswith(("-", "|")):
            if found and not before and not found[-1].language:
                found[-1] = Block("", found[-1].text + line[4:] + "\n", found[-1].name)
            else:
                found.append(Block("", line[4:] + "\n", _named(before)))
            before = ""
        elif line.strip():
            before = line
    return found


def _named(text: str) -> str:
    names = re.findall(r"`([\w./-]+\.(?:yaml|py|jsonl))`", text)
    return names[-1] if names else ""
