"""A regular expression that cannot be shown to be quick is tried, with texts that are hard for it: what is quick is
taken, what takes exponential time is found."""

import re
import time

import pytest
from tokenizers import Regex, pre_tokenizers

from made.malformed_tokenizers import SLOW
from made.patterns import PATTERNS
from psomerge.screening.hard_texts import hard_texts
from psomerge.screening.pattern_items import branches_of, times
from psomerge.screening.pattern_time import slowness
from psomerge.screening.tokenizer_json import doubt_about

FURTHER = (
    r"xy(\w+)+!",  # only after something else
    r"id:(\d+,?)+;",
    r"(a|ab|b)*c",  # two letters at once
    r"(.*?,){30}P",
    r"(?:\s*\S+)*;",  # only where what it cannot do without stands before
    r"([龥一]+)+二",
    r"(?:\p{M}+\p{M}?)+9",
    r"(a+)+b|c",
    r"^(\d+)*$",
    r"(?:\p{L}\p{M}*)+(?:\p{L}+)*9",  # the square in each place: a cube
    r"\s*\s*\s*\s*\s*x",
    r"(?:(a)|\1)*(?:a|a)*b",
)


@pytest.mark.heavy
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_in_use_is_quick(name: str) -> None:
    text = (
        "Der Preis: 1234567 \u4e2d\u6587, it's  \n\n  \u0995\u09be \ud55c\uad6d\uc5b4 camelCase_x9!? " * 500
    )  # 25,000 characters
    start = time.process_time()
    pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated").pre_tokenize_str(text)
    assert time.process_time() - start < 1
    assert (doubt_about(PATTERNS[name]) and slowness(PATTERNS[name])) == ""


def test_patterns_in_use_are_tried_where_they_are_not_shown_to_be_quick() -> None:
    assert {name for name, pattern in PATTERNS.items() if doubt_about(pattern)} == {
        *("Jais 2", "EXAONE", "Chameleon", "syllables", "addresses", "one character again and again", "identifiers"),
        "a list of words",
    }


@pytest.mark.heavy
@pytest.mark.parametrize("pattern", [*SLOW, *FURTHER])
def test_a_pattern_that_takes_exponential_time_is_found(pattern: str) -> None:
    assert re.match(
        r"(takes more than 0\.5 s of computing for|is given up by tokenizers on) \d+ characters that begin with '",
        slowness(pattern),
    )


@pytest.mark.heavy
@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?<=a+)b", "\\", "a{2,1}", ""])
def test_a_pattern_that_is_none_is_left_to_the_library(pattern: str) -> None:
    assert slowness(pattern) == ""


def test_the_parts_of_a_pattern_are_told_apart() -> None:
    (a, group, edge, word), (digits,) = branches_of(r"a?(?:[b\]c]{2,}|(?=x)\p{L}){3}\b\w*|\d{,4}+")
    assert (a.source, a.least, a.most) == ("a", 0, 1)
    assert (group.least, group.most, len(group.branches)) == (3, 3, 2)
    assert [(item.source, item.silent) for item in group.branches[0]] == [(r"[b\]c]", False)]
    assert [(item.source, item.silent) for item in group.branches[1]] == [("", True), (r"\p{L}", False)]
    assert edge.silent
    assert (word.source, word.most) == (r"\w", float("inf"))
    assert (digits.least, digits.most) == times("{,4}") == (0, 4)


def test_a_repetition_is_fed_with_what_it_takes_after_what_leads_to_it() -> None:
    texts = set(hard_texts("x(?:ab|c)+;", lambda source, letter: source == letter))
    assert {"x" + "ab" * 50, "x" + "c" * 100} <= texts
    assert any(text.startswith("x" + "ab" * 50 + "\0") and ";" in text for text in texts)
    assert max(map(len, texts)) <= 4100
