"""A zoo of malformed checkpoints: 500 cases, each one sound folder that one kind of damage was done to, or two kinds,
drawn from the case's number.

What is done to which part of a checkpoint stands in the modules that `all_kinds` names.
"""

import importlib
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from made.models import tiny_llama

CASES = 500
SAMPLE = 100
"""Cases of `make test`, drawn once for all."""
MIXTURES = 5
OUTSIDE = "outside"
"""Folder beside the checkpoint, of files that nothing may read: where links and paths in the zoo lead to."""
EXECUTED = "executed"
"""File in OUTSIDE that every payload would write."""
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}{% if add_generation_prompt "
    "%}[assistant]{% endif %}"
)


@dataclass(frozen=True)
class Kind:
    """One way to spoil a checkpoint."""

    damage: Callable[[Path, random.Random], object]
    """Done to a folder, with a generator of its own."""
    says: str
    """Regular expression for what the refusal says beside the folder's path."""
    passes: str = ""
    """Why the damage may also be accepted; empty: it must be refused."""
    adapter: bool = False
    """Whether it is done to a LoRA adapter and not to a full checkpoint."""


@dataclass(frozen=True)
class Case:
    """What was done to a folder."""

    number: int
    kinds: tuple[str, ...]


def all_kinds() -> dict[str, Kind]:
    """Every kind by name."""
    names = ("weights", "folders", "configs", "tokenizers", "templates", "adapters")
    found = [item for name in names for item in importlib.import_module(f"made.malformed_{name}").KINDS.items()]
    kinds = dict(found)
    assert len(kinds) == len(found), "two kinds of one name"
    return kinds


def draw(number: int, kinds: dict[str, Kind]) -> Case:
    """The kinds of a case: each in turn, and after all of them a few mixtures of two."""
    names = list(kinds)
    turn = number % (len(names) + MIXTURES)
    if turn < len(names):
        return Case(number, (names[turn],))
    rng = random.Random(f"mixture {number}")
    first = rng.choice(names)
    return Case(
        number,
        (first, rng.choice([name for name in names if name != first and kinds[name].adapter == kinds[first].adapter])),
    )


def sound(folder: Path, seed: int = 0) -> Path:
    """A checkpoint as it should be: a Llama of one layer with tokenizer, chat template and generation config."""
    tiny_llama(folder, seed, layers=1)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def spoil(case: Case, kinds: dict[str, Kind], model: Path, folder: Path) -> Path:
    """A copy of a sound `model` in `folder`, damaged."""
    shutil.copytree(model, folder)
    for position, name in enumerate(case.kinds):
        try:
            kinds[name].damage(folder, random.Random(f"{name} {case.number} {position}"))
        # the second of a mixture may find nothing left to spoil: the first has made a link, a folder or nonsense of its
        # file
        except Exception:
            if position == 0:
                raise
    return folder


def secrets(place: Path) -> Path:
    """The folder OUTSIDE, with a file of each sort that a checkpoint has; all are as if they had not been read since
    1970."""
    outside = tiny_llama(place / OUTSIDE, 7, layers=1, dtype=torch.bfloat16)
    (outside / "secret.jinja").write_text("secret")
    (outside / "secret.txt").write_text("secret")
    return outside
