"""Texts that are hard for a regular expression: each of its repetitions is fed again and again with what it takes, and
then stopped by something else, so that an engine that goes back tries every way in which it can have got there.

A search for bad texts, not a proof that there are none.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from psomerge.screening.pattern_items import Item, branches_of

SHORT, LONG = (50, 100), 4000
"""Times that a repetition is fed, and characters of the longest texts: the ways double with each where a pattern is
exponential; where it is a power, they are the square or the cube."""
LETTERS = "aZǅʰاक中\u093e\u03010²Ⅷ \t\n\r\u00a0\u3000!.,'-_/(<$€😀\u200d"
"""One or two of each kind of character that patterns tell apart."""
_STOPS = ("\0", "!", "a", "0", " ", "\n")
_MOST = 60
"""Times that a repetition within another is fed, and characters of a pattern's own that are tried."""

Accepts = Callable[[str, str], bool]
"""Whether a character or class of a pattern takes a letter."""


def hard_texts(pattern: str, accepts: Accepts) -> Iterator[str]:
    """Yields texts that are hard for a pattern, short ones first."""
    branches = branches_of(pattern)
    own = list(dict.fromkeys(text[-1:] for text in _characters(branches)))[:_MOST]
    letters = dict.fromkeys([*LETTERS, *own])
    end = "".join(own) + "a0 !"  # an engine looks first whether what a pattern cannot do without is there at all
    pumps = dict.fromkeys(
        [
            (before, word)
            for before, item in _repeated(branches, "", accepts)
            for word in _words(item, letters, accepts)
            if word
        ]
        + [("", letter) for letter in letters]
    )
    for (before, word), count in itertools.product(pumps, SHORT):
        yield from (f"{before}{word * count}{stop}" for stop in ("", *(one + end for one in _STOPS)))
        yield from (f"{end}{before}{word * count}{stop}" for stop in ("", "\0"))
    for before, word in pumps:
        yield from (f"{before}{word * (LONG // len(word))}{stop}" for stop in ("", "\0", "!" + end))


def _characters(branches: Sequence[Sequence[Item]]) -> Iterator[str]:
    for item in (item for branch in branches for item in branch):
        if item.branches:
            yield from _characters(item.branches)
        elif not item.silent and not item.source.startswith("["):
            yield item.source


def _repeated(branches: Sequence[Sequence[Item]], before: str, accepts: Accepts) -> Iterator[tuple[str, Item]]:
    """Yields what may stand there many times, each with a text that leads to it."""
    for branch in branches:
        reached = before
        for item in branch:
            if item.most > 1:
                yield reached, item
            yield from _repeated(item.branches, reached, accepts)
            reached += _word((item,), "", accepts, lean=True)


def _words(item: Item, letters: Iterable[str], accepts: Accepts) -> list[str]:
    """Returns what an item takes at once: of each of its choices, with each letter wherever that is taken, and with
    all that may be left out, or without."""
    branches = item.branches or ((Item(item.source, silent=item.silent),),)
    return list(
        dict.fromkeys(
            _word(branch, letter, accepts, lean=lean)
            for branch in branches
            for letter in letters
            for lean in (False, True)
        )
    )


def _word(items: Sequence[Item], letter: str, accepts: Accepts, *, lean: bool) -> str:
    """Returns a text that a row of items takes, of a letter wherever it is taken, as short as can be if `lean`."""
    found: list[str] = []
    for item in items:
        if item.silent or (lean and item.least == 0):
            continue
        if item.branches:
            choices = [_word(branch, letter, accepts, lean=lean) for branch in item.branches]
            one = next((choice for choice in choices if letter and letter in choice), choices[0])
        else:
            taken = (letter, item.source[-1:], *LETTERS, *item.source[1:_MOST])
            one = next((text for text in taken if text and accepts(item.source, text)), "")
        found.append(one * min(max(item.least, 1), _MOST))
    return "".join(found)
