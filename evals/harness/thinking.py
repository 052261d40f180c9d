"""Reasoning models: what of an answer follows the thought, and whether the thought has an end."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psomerge.errors import ConfigError
from psomerge.evals.suites.suite import Prompting

_WORDS = {"end": "begin", "End": "Begin", "END": "START"}
"""What stands before a thought in the place of what stands behind it, as models are published: `<|end_of_thought|>`
(OpenThinker, Sky-T1), `<|END_THINKING|>` (Command A)."""


@dataclass(frozen=True)
class Marks:
    """What a thought is written between."""

    begin: str | None
    """None where nobody says it."""
    end: str


def marks_of(prompting: Prompting) -> Marks | None:
    """Returns the marks of a benchmark's thoughts, None where its model is not to think."""
    end = prompting.think_end_token
    return Marks(prompting.think_begin_token or begin_of(end), end) if end else None


def answer_after(text: str, prompt: str, marks: Marks) -> str | None:
    """Returns what follows the last thought, without white space before it; None where a thought has no end: what is
    written in it is no answer, whatever it says.

    Args:
        text: that the model wrote.
        prompt: that it was asked; one that ends in the begin of a thought, or in a thought without words, is taken into
            account.
        marks: of a thought.
    """
    _, found, answer = text.rpartition(marks.end)
    if marks.begin and marks.begin in answer:
        return None
    if found:
        return answer.lstrip()
    # Models with two modes answer at once where they need no thought.
    at_once = not _open(prompt, marks) if marks.begin else prompt.rstrip().endswith(marks.end)
    return text if at_once else None


def begin_of(end: str) -> str | None:
    """Returns the mark before a thought where its end tells it, e.g. `<think>` of `</think>`, `[THINK]` of `[/THINK]`,
    `◁think▷` of `◁/think▷`, `<|begin_of_thought|>` of `<|end_of_thought|>`."""
    if match := re.fullmatch(r"\s*([^\w\s/]+)/(.+?)\s*", end):
        return match[1] + match[2]
    match = re.fullmatch(r"(\W+)(end|End|END)(?=_)(\w+\W+)", end.strip())
    return match[1] + _WORDS[match[2]] + match[3] if match else None


def check_choices(instances: Sequence[Any], marks: Marks) -> None:
    """Raises ConfigError where choices would be held against the begin of a thought."""
    for instance in instances:
        if instance.request_type == "loglikelihood" and _open(instance.args[0], marks):
            raise ConfigError(
                f"task {instance.task_name} compares choices, and its prompts end in the begin of a thought, "
                f"{marks.begin}: expected the answer there; set `chat_template_args: {{enable_thinking: false}}` in "
                "`prompting` if the template knows it, or choose a task in which the model writes"
            )


def _open(prompt: str, marks: Marks) -> bool:
    return marks.begin is not None and prompt.rstrip().endswith(marks.begin.rstrip())
