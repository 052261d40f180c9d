"""A chat template is a program from somebody else: it renders as it does elsewhere, or ends with one line."""

import gc
import os
from pathlib import Path

import pytest

from made.models import byte_tokenizer
from made.wellformed import LONG_TEMPLATE
from psomerge.errors import ArtefactError
from psomerge.evals.harness import template_process
from psomerge.evals.harness.templates import ChatTemplate

pytestmark = pytest.mark.heavy

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi,\naxb “ä”"},
    {"role": "assistant", "content": "Yes"},
]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_template_renders_as_transformers_renders_it() -> None:
    # The tokenizer's own method renders in this process.
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = LONG_TEMPLATE
    template = ChatTemplate(LONG_TEMPLATE, tokenizer.special_tokens_map, "here")
    asked = tokenizer.apply_chat_template(TURNS[:2], tokenize=False, add_generation_prompt=True)
    going_on = tokenizer.apply_chat_template(TURNS, tokenize=False, continue_final_message=True)
    assert template.render(TURNS[:2], add_generation_prompt=True) == asked
    assert template.render(TURNS, add_generation_prompt=False) == going_on
    assert "<eos>" not in going_on
    assert "Hi,\naxb “ä”" in asked


def test_a_date_is_the_one_that_is_given_however_the_template_asks_for_it(monkeypatch) -> None:
    # The story: `strftime_now` asked the clock, so the same command asked other questions the next day.
    source = (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }}"
        "{% macro when() %}{{ strftime_now('|%H:%M|%A') }}{% endmacro %}{{ when() }}{{ messages[0].content }}"
    )
    template = ChatTemplate(source, {}, "here")
    assert template.writes_a_date
    # 29 February 2024 was a Thursday.
    text = template.render(TURNS[:1], add_generation_prompt=True, date="2024-02-29")
    assert text == "29 Feb 2024|00:00|ThursdayBe brief."
    told = {"date_string": "1 Jan 1970"}
    text = template.render(TURNS[:1], add_generation_prompt=True, date="2024-03-01", arguments=told)
    assert text == "1 Jan 1970|00:00|FridayBe brief."
    assert not ChatTemplate("{{ messages[0].content }}", {}, "here").writes_a_date


def test_an_argument_reaches_the_template_and_one_that_it_does_not_ask_for_is_refused() -> None:
    source = (
        "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %}<think></think>"
        "{% endif %}{{ style.tone }}"
    )
    template = ChatTemplate(source, {}, "here")
    told = {"enable_thinking": False, "style": {"tone": "dry"}}
    assert (
        template.render(TURNS[1:2], add_generation_prompt=True, arguments=told)
        == f"{TURNS[1]['content']}<think></think>dry"
    )
    with pytest.raises(ArtefactError, match=r"asks for no 'enable_thinkng', which .*; did you mean enable_thinking\?"):
        template.render(TURNS, add_generation_prompt=True, arguments={"enable_thinkng": False})
    assert template.render(TURNS[1:2], add_generation_prompt=True, arguments={"style": {}}) == TURNS[1]["content"]


def test_a_template_that_refuses_a_conversation_is_told_from_one_that_is_broken() -> None:
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    )
    template = ChatTemplate(source, {}, "here")
    assert template.render(TURNS, add_generation_prompt=True) is None
    assert template.render(TURNS[1:], add_generation_prompt=True) == TURNS[1]["content"]


@pytest.mark.parametrize(
    ("source", "phrase"),
    [
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ nothing.of.this }}", "UndefinedError: 'nothing' is undefined"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("{{ ['a' * 10**6] * 30 }}", "more than 16777216 bytes"),
        ("{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}", "RecursionError"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_named_with_what_is_wrong(source: str, phrase: str) -> None:
    with pytest.raises(
        ArtefactError, match=f"^here: its chat template cannot be rendered: .*{phrase}.*; correct the template$"
    ):
        ChatTemplate(source, {}, "here").render(TURNS, add_generation_prompt=True)


def test_a_template_that_never_ends_is_ended_and_the_next_conversation_is_rendered() -> None:
    endless = (
        "{% if messages|length > 1 %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor "
        "%}{% endif %}done"
    )
    template = ChatTemplate(endless, {}, "here")
    with pytest.raises(ArtefactError, match="takes more than 5 s of computing for one conversation"):
        template.render(TURNS, add_generation_prompt=True)
    assert template.render(TURNS[:1], add_generation_prompt=True) == "done"


def test_a_template_has_no_more_memory_than_its_process_may_take() -> None:
    doubling = "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
    assert template_process.MEMORY == 2**30
    with pytest.raises(ArtefactError, match=r"MemoryError|its process ended"):
        ChatTemplate(doubling, {}, "here").render(TURNS, add_generation_prompt=True)


def test_the_process_ends_with_the_object_that_uses_it() -> None:
    template = ChatTemplate("x", {}, "here")
    template.render(TURNS, add_generation_prompt=True)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    (pid,) = (int(child) for child in children if b"template_process" in Path(f"/proc/{child}/cmdline").read_bytes())
    assert alive(pid)
    del template
    gc.collect()
    assert not alive(pid)
