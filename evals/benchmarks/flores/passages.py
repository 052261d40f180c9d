"""Which Wikimedia article a sentence of FLORES is from: what SIB-200 and MiLiC-Eval, which reuse these sentences, do
not say themselves.

Items of one article must fall into one split, in whatever data set they are. FLORES+ (`url`) and Belebele (`link`) name
the article by the same address.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

FLORES = ("openlanguagedata/flores_plus", "5fec6c13f9e5a4db2f745d4ec0d7c9721ddc4f06")
BELEBELE = ("facebook/belebele", "7899cdfa4e1e0d733fd77c848e2c273cb1d32be2")
"""Data sets on the hub with their revisions: the ones that the shipped suites name."""


@cache
def articles(source: str) -> Mapping[str, str]:
    """Returns article by English text, without white space: sentences for `flores`, whole passages for `belebele`.

    Raises:
        ValueError: another source.
    """
    from datasets import load_dataset

    if source == "flores":
        parts: Any = load_dataset(FLORES[0], "eng_Latn", revision=FLORES[1])
        return {_bare(row["text"]): row["url"] for part in ("dev", "devtest") for row in parts[part]}
    if source == "belebele":
        passages: Any = load_dataset(BELEBELE[0], "eng_Latn", revision=BELEBELE[1])
        return {_bare(row["flores_passage"]): row["link"] for row in passages["test"]}
    raise ValueError(f"passages: expected flores or belebele, found {source!r}")


def article_of(sentence: str, source: str) -> str | None:
    """Returns the article of an English sentence; None where the source does not have it.

    Args:
        sentence: as FLORES has it; white space does not count.
        source: `flores` (all sentences, behind a form on the hub) or `belebele` (what that uses of them, free of any).
    """
    bare, known = _bare(sentence), articles(source)
    if source == "flores":
        return known.get(bare)
    return next((article for passage, article in known.items() if bare in passage), None)


def groups_of(sentences: Iterable[tuple[str, str]], source: str, *, known: float = 0.0) -> dict[str, str]:
    """Returns the group of each sentence: its article, or its own name where the source does not have it.

    Args:
        sentences: (name, English text) each.
        source: as in `article_of`.
        known: least share of the sentences that the source must have, in [0, 1].

    Raises:
        ValueError: it has fewer: these are not its sentences.
    """
    found = {name: article_of(text, source) for name, text in sentences}
    strangers = [name for name, article in found.items() if article is None]
    if len(strangers) > (1 - known) * len(found):
        raise ValueError(
            f"expected sentences of {source}, found {len(strangers)} others among {len(found)}, such as {strangers[0]}"
        )
    return {name: article or name for name, article in found.items()}


def _bare(text: str) -> str:
    return "".join(text.split())
