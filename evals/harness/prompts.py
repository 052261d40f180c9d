"""Prompts of a benchmark's items, by the harness's own functions, item by item: what fails, or loses what the task or
the suite says, is named."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from psomerge.errors import ArtefactError
from psomerge.evals.harness.foreign import over_items
from psomerge.evals.harness.items import Items
from psomerge.evals.harness.nulls import refusing_nulls
from psomerge.evals.suites.suite import Prompting

SHORT = 12
"""Characters from which on a turn's text stands in a rendered conversation by no chance."""
OTHERS = ("Zq", "Qz")
"""Put in place of a short turn."""
Render = Callable[..., str | None]
"""Turns, and by name `add_generation_prompt`, to a text; None where the template refuses the turns."""


def make_prompts(task: Any, items: Items, prompting: Prompting, *, render: Render | None, shots: int) -> list[Any]:
    """Returns lm-eval's requests for items, as its `build_all_requests` makes them, in the order of items and choices.

    Args:
        task: of lm-eval; its examples are drawn anew.
        items: of one split.
        prompting: of the benchmark.
        render: the chat template, where prompts are turns.
        shots: solved examples before each.

    Raises:
        ArtefactError: an item that the task's code cannot take, or whose prompt lacks text; names it.
    """
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    chat = {"apply_chat_template": render is not None, "chat_template": _whole(render) if render else None}
    instances: list[Any] = []

    def add(place: int) -> None:
        doc = items.docs[place]
        context = task.fewshot_context(
            doc,
            num_fewshot=shots,
            system_instruction=prompting.system_instruction,
            fewshot_as_multiturn=prompting.fewshot_as_multiturn,
            gen_prefix=task.doc_to_prefix(doc),
            **chat,
        )
        labels = (task.config["task"], place, task.config.repeats)
        made = task.construct_requests(doc=doc, ctx=context, metadata=labels, **chat)
        instances.extend(made if isinstance(made, list) else [made])

    with refusing_nulls(task, items):
        over_items(items.names, items.docs, "make its prompt", add)
    return instances


def _whole(render: Render) -> Callable[..., str]:
    """The template as the harness calls it; what it leaves out is refused, where the harness is silent. Whether short
    turns count is tried once for each place in a sequence of roles: it takes a rendering each."""
    tried: set[tuple[tuple[str | bool, ...], int]] = set()

    def rendered(turns: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        roles = [turn["role"] for turn in turns]
        if (text := render(turns, add_generation_prompt=add_generation_prompt)) is None:
            raise ArtefactError(
                f"the chat template refuses a conversation of {', '.join(roles)}; {_way_out('system' in roles)}"
            )
        lost = lost_turn(turns, text)
        if lost is None:
            shape = (*roles, add_generation_prompt)
            untried = [place for place in short_turns(turns) if (shape, place) not in tried]
            tried.update((shape, place) for place in untried)
            again = partial(render, add_generation_prompt=add_generation_prompt)
            lost = next((place for place in untried if is_unseen(turns, place, text, again)), None)
        if lost is not None:
            raise ArtefactError(
                f"the chat template leaves out text of turn {lost + 1} of {len(turns)}, the {roles[lost]}'s: expected "
                f"{_short(turns[lost]['content'])} in the prompt, found {_short(text)}; "
                f"{_way_out(roles[lost] == 'system')}"
            )
        return text

    return rendered


def lost_turn(turns: Sequence[Mapping[str, str]], text: str) -> int | None:
    """Returns the first turn whose text is not in a rendered conversation, but for white space around it, each at a
    place of its own; None where all are."""
    lost = []
    # Longest first: a short turn, "A", is found in many a place that is a longer one's.
    for place in sorted(range(len(turns)), key=lambda place: -len(turns[place]["content"])):
        content = turns[place]["content"].strip()
        if content not in text:
            lost.append(place)
        text = text.replace(content, "\0", 1) if content else text
    return min(lost, default=None)


def short_turns(turns: Sequence[Mapping[str, str]]) -> list[int]:
    """Returns the turns with some text, but so little that it may stand in a rendered conversation by chance."""
    return [place for place, turn in enumerate(turns) if 0 < len(turn["content"].strip()) < SHORT]


def is_unseen(
    turns: Sequence[Mapping[str, str]],
    place: int,
    text: str,
    again: Callable[[Sequence[Mapping[str, str]]], str | None],
) -> bool:
    """Returns whether a rendered conversation is the same with another text in a turn's place: an answer "A" is found
    in many a text that does not hold it.

    Args:
        turns: of the conversation.
        place: of the turn.
        text: of the conversation.
        again: renders other turns.
    """
    other = next(one for one in OTHERS if one != turns[place]["content"].strip())
    return again([*turns[:place], {**turns[place], "content": other}, *turns[place + 1 :]]) == text


def _way_out(of_system: bool) -> str:
    if of_system:
        return (
            "for a template without a system's turn remove the suite's `system_instruction`, lay `config: "
            "{description: ''}` over the task's own, or set chat_template: false"
        )
    return "correct the template, or set chat_template: false"


def _short(text: str) -> str:
    return repr(text if len(text) <= 90 else f"{text[:40]} ... {text[-40:]}")
