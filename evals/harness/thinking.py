"""Reasoning models: what of an answer follows the thought, and whether the thought has an end."""

import re
from collections.abc import Sequence
from typing import Any

from psomerge.errors import ConfigError


def answer_after(text: str, prompt: str, end: str) -> str | None:
    """Returns what follows the last thought, without white space before it; None where a thought has no end: what is
    written in it is no answer, whatever it says.

    Args:
        text: that the model wrote.
        prompt: that it was asked; one that ends in the begin of a thought, or in a thought without words, is taken into
            account.
        end: of a thought, e.g. `</think>`.
    """
    begin = begin_of(end)
    _, found, answer = text.rpartition(end)
    if begin and begin in answer:
        return None
    if found:
        return answer.lstrip()
    # Models with two modes answer at once where they need no thought.
    at_once = not _open(prompt, begin) if begin else prompt.rstrip().endswith(end)
    return text if at_once else None


def begin_of(end: str) -> str | None:
    """Returns the mark before a thought where its end tells it, e.g. `<think>` of `</think>`, `[THINK]` of
    `[/THINK]`."""
    match = re.fullmatch(r"([<\[(|]+)/(.+)", end)
    return match[1] + match[2] if match else None


def check_choices(instances: Sequence[Any], end: str) -> None:
    """Raises ConfigError where choices would be held against the begin of a thought."""
    begin = begin_of(end)
    for instance in instances:
        if instance.request_type == "loglikelihood" and _open(instance.args[0], begin):
            raise ConfigError(
                f"task {instance.task_name} compares choices, and its prompts end in the begin of a thought, {begin}: "
                "expected the answer there; set `chat_template_args: {enable_thinking: false}` in `prompting` if the "
                "template knows it, or choose a task in which the model writes"
            )


def _open(prompt: str, begin: str | None) -> bool:
    return begin is not None and prompt.rstrip().endswith(begin)
