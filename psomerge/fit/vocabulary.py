"""Whether an expert's tokens can be merged with the base's, token by token, in words for a refusal."""

from collections.abc import Iterator, Mapping
from typing import Any

from psomerge.checkpoint.config import sections
from psomerge.checkpoint.layers import vocabulary_rows
from psomerge.checkpoint.reader import Checkpoint
from psomerge.vocabulary.comparison import VocabularyComparison, compare
from psomerge.vocabulary.special_tokens import special_misfits, special_tokens
from psomerge.vocabulary.tokenizer import has_tokenizer
from psomerge.vocabulary.tokens import Reader, few, same_files, shown

CONFLICT = "they cannot be merged: bring its tokens to the base's ids, or leave it out"


def declared_rows(config: Mapping[str, Any]) -> int | None:
    """Returns the rows of a model's embedding as its config says, None where it says none."""
    sizes = [section["vocab_size"] for _, section in sections(config) if isinstance(section.get("vocab_size"), int)]
    return sizes[0] if sizes else None


def compared(base: Checkpoint, expert: Checkpoint, read: Reader) -> VocabularyComparison | None:
    """Returns how an expert's vocabulary lies to the base's; None where a file of either does not tell, or both are the
    same bytes.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    if same_files(base, expert):
        return None
    ours, theirs = read(base), read(expert)
    return compare(ours, theirs) if ours and theirs and ours.ids and theirs.ids else None


def vocabulary_misfits(base: Checkpoint, expert: Checkpoint, comparison: VocabularyComparison | None) -> Iterator[str]:
    """Yields what keeps two vocabularies from being merged token by token, without the expert's name. Raises as
    `compared`."""
    ours, theirs = vocabulary_rows(base.tensors), vocabulary_rows(expert.tensors)
    declared = declared_rows(expert.config)
    named = comparison is not None or same_files(base, expert)
    if comparison:
        yield from _conflicts(comparison)
    if theirs and declared not in (theirs, None) and (theirs, declared) != (ours, declared_rows(base.config)):
        yield (
            f"has vocab_size {declared} in its config.json, but {theirs} rows in its embedding; correct its config.json"
        )
    elif ours and theirs and ours != theirs and not named:
        lacking = [words for one, words in ((base, "the base"), (expert, "the expert")) if not has_tokenizer(one)]
        yield (
            f"has {theirs} rows in its embedding, the base {ours}, and no vocabulary tells which token each of them "
            f"is; put the tokenizer of {' and that of '.join(lacking or ['each'])} into its folder, as it was trained "
            "with, so that rows can be merged by token"
        )
    if comparison and theirs:
        beyond = [
            f"{shown(token)} (id {number})" for token, number in comparison.only_expert.items() if number >= theirs
        ]
        if beyond:
            yield (
                f"has tokens past the {theirs} rows of its embedding: {few(beyond)}; correct its tokenizer, or "
                "resize its embedding before training it"
            )
    yield from special_misfits(special_tokens(base), special_tokens(expert), named=named, rows=theirs)


def _conflicts(comparison: VocabularyComparison) -> Iterator[str]:
    clashes, smaller = list(comparison.clashes), comparison.smaller()
    if clashes and comparison.common < smaller / 2:
        yield (
            f"has another vocabulary: {comparison.common} of {smaller} tokens have the base's ids ({few(clashes)}); "
            f"{CONFLICT}"
        )
    elif clashes:
        yield f"gives tokens other ids than the base: {few(clashes)}; {CONFLICT}"
