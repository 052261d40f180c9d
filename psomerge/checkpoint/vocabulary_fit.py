"""Whether an expert's tokens mean the same rows as the base's, in words for a refusal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psomerge.checkpoint.config import sections
from psomerge.checkpoint.reader import Checkpoint
from psomerge.checkpoint.special_tokens import special_misfits, special_tokens
from psomerge.checkpoint.vocabulary import Comparison, Reader, between, compare, few, same_files, shown

CONFLICT = "row by row they cannot be merged: bring its tokens to the base's ids, or leave it out"


def rows(config: Mapping[str, Any]) -> int | None:
    """Returns the rows of a model's embedding as its config says, None where it says none."""
    sizes = [section["vocab_size"] for _, section in sections(config) if isinstance(section.get("vocab_size"), int)]
    return sizes[0] if sizes else None


def compared(base: Checkpoint, expert: Checkpoint, read: Reader) -> Comparison | None:
    """Returns how an expert's vocabulary lies to the base's; None where a file of either does not tell, or both are the same bytes.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    if same_files(base, expert):
        return None
    ours, theirs = read(base), read(expert)
    return compare(ours, theirs) if ours and theirs else None


def vocabulary_misfits(base: Checkpoint, expert: Checkpoint, comparison: Comparison | None) -> Iterator[str]:
    """Yields what keeps two vocabularies from being merged row by row, without the expert's name. Raises as `compared`."""
    ours, theirs = rows(base.config), rows(expert.config)
    if comparison:
        yield from _conflicts(comparison)
    if ours and theirs and ours != theirs:
        yield _resized(ours, theirs, comparison)
    elif comparison and ours:
        beyond = [f"{shown(token)} (id {number})" for token, number in comparison.only_expert.items() if number >= ours]
        if beyond:
            yield f"has tokens past the {ours} rows of its embedding: {few(beyond)}; correct its tokenizer, or resize its embedding before training it"
    named = comparison is not None or same_files(base, expert)
    limit = ours if ours and theirs and theirs <= ours else None
    yield from special_misfits(special_tokens(base), special_tokens(expert), named=named, rows=limit)


def _conflicts(comparison: Comparison) -> Iterator[str]:
    conflicts = comparison.conflicts()
    smaller = comparison.common + len(comparison.moved) + min(len(comparison.only_base), len(comparison.only_expert))
    if conflicts and comparison.common < smaller / 2:
        yield f"has another vocabulary: {comparison.common} of {smaller} tokens have the base's ids ({few(conflicts)}); {CONFLICT}"
    elif conflicts:
        yield f"gives tokens other ids than the base: {few(conflicts)}; {CONFLICT}"


def _resized(ours: int, theirs: int, comparison: Comparison | None) -> str:
    """Words for vocabularies of different sizes; which tokens make the difference, where that is known."""
    told = ""
    for label, own in (("tokens of its own", comparison.only_expert), ("tokens it lacks", comparison.only_base)) if comparison else ():
        told += f"; {label}: {few([f'{shown(token)} (id {number})' for token, number in own.items()])}" if own else ""
    told = told or ("; both have the same tokens, so only unused rows differ" if comparison else "")
    remedy = f"bring it to the base's rows with transformers' resize_token_embeddings({ours}) if it can do without the difference, or leave it out"
    return f"has vocab_size {theirs}, the base {ours}{told}; {remedy}"


def rivals(names: Sequence[str], comparisons: Sequence[Comparison | None]) -> list[str]:
    """Returns where experts contradict each other in tokens that the base has not.

    Args:
        names: of the experts.
        comparisons: of each with the base, in the same order.
    """
    return list(between({name: one.only_expert for name, one in zip(names, comparisons, strict=True) if one}))
