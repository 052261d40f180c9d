"""Base and experts that can be merged: opened, held against each other, and one of their tokenizers chosen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from psomerge.checkpoint.adapter import is_adapter
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.fit.misfits import all_misfits, buffer_misfits, misfit
from psomerge.fit.vocabulary import compared
from psomerge.merge.basis import Basis, basis_of, open_expert
from psomerge.tasks.experts.class_defaults import loading, spelt_out
from psomerge.tasks.experts.cutting import cut_alike
from psomerge.tasks.experts.numbering import check_numbering
from psomerge.tasks.experts.pieces import read_pieces
from psomerge.vocabulary.tokenizer import differing_flags, has_chat_template, has_tokenizer, tokenizers_differ
from psomerge.vocabulary.tokens import few, same_files, shown


@dataclass(frozen=True)
class Fitting:
    """Models that fit."""

    base: Checkpoint
    experts: tuple[Checkpoint, ...]
    """As their own files have them."""
    basis: Basis
    """Their vocabularies aligned."""
    tokenizer_from: str
    """Name of the model whose tokenizer, chat template, generation config and stop tokens are used."""


def open_fitting(
    folders: Mapping[str, Path],
    tokenizer_from: str | None,
    *,
    compiled: bool | None = None,
    faults: Callable[[Checkpoint, Sequence[Checkpoint]], list[str]] = lambda base, experts: [],
) -> Fitting:
    """Returns the models of local folders, opened and found to fit. Of weights only integers are read.

    Args:
        folders: of `base` and of every expert by name, the base first.
        tokenizer_from: a name, None if nobody said one.
        compiled: whether to compile the merge pass; None decides by the size of the model.
        faults: tells what else is wrong with models that do not fit.

    Raises:
        ArtefactError: checkpoints are broken or do not fit; all misfits of all of them are listed.
        ConfigError: several tokenizers differ and none is chosen.
    """
    opened: dict[str, Checkpoint] = {}
    broken: list[str] = []
    for name, folder in folders.items():
        base = opened.get("base")
        try:
            if broken and base is None and is_adapter(folder):
                continue  # of a base that cannot be opened
            opened[name] = open_expert(folder, name, base) if base else open_checkpoint(folder, name)
        except ArtefactError as error:
            broken.append(f'"{name}": {error}' if len(folders) > 1 else str(error))
    if (base := opened.pop("base", None)) is None:
        raise ArtefactError("\n".join(broken))
    experts = tuple(opened.values())
    misfits = [*all_misfits(base, experts, read_pieces, spelt_out, loading), *buffer_misfits(base, experts)]
    if lines := broken + misfits:
        lines += faults(base, experts)
        raise misfit(lines, base.folder) if misfits else ArtefactError("\n".join(lines))
    return Fitting(base, experts, *merging_basis(base, experts, tokenizer_from, compiled=compiled))


def merging_basis(
    base: Checkpoint, experts: Sequence[Checkpoint], tokenizer_from: str | None, *, compiled: bool | None = None
) -> tuple[Basis, str]:
    """Returns the basis of models that fit, and the name of the one whose tokenizer is used.

    Args:
        base, experts: opened.
        tokenizer_from: a name, None if nobody said one.
        compiled: as of `psomerge.merge.basis.open_basis`.

    Raises:
        ConfigError, ArtefactError: as `choose_tokenizer` and `check_numbering`.
    """
    name = choose_tokenizer(base, experts, tokenizer_from)
    basis = basis_of(base, experts, name, compiled=compiled)
    if basis.union and (merged := basis.named(name).edited.get("tokenizer.json")):
        check_numbering(next(one for one in (base, *experts) if one.name == name), merged, basis.union)
    return basis, name


def choose_tokenizer(base: Checkpoint, experts: Sequence[Checkpoint], given: str | None) -> str:
    """Returns the name given, else `base`, or the one expert that has a chat template where the base has none, or the
    first that has a tokenizer where the base has none.

    Raises:
        ConfigError: nothing is given, and tokenizers differ or several experts bring a chat template.
        ArtefactError: a tokenizer file is damaged.
    """
    if given is not None:
        return given
    bringing = [one for one in (base, *experts) if has_tokenizer(one)] or [base]
    if others := [one.name for one in bringing[1:] if bringing[0] is not base and _apart(bringing[0], one)]:
        raise ConfigError(
            f"the base has no tokenizer, and those of {', '.join(others)} differ from that of {bringing[0].name}; say "
            "which one to use with tokenizer_from"
        )
    differing = [f"{expert.name}{_own(base, expert)}" for expert in experts if _apart(base, expert)]
    if differing:
        raise ConfigError(
            f"the tokenizers of {', '.join(differing)} differ from the base's; say which one to use with tokenizer_from"
        )
    extended = {
        expert.name: vocabulary
        for expert in experts
        if not same_files(base, expert) and (vocabulary := read_pieces(expert))
    }
    for (one, ours), (other, theirs) in combinations(extended.items(), 2):
        if tokens := differing_flags(ours.added, theirs.added):
            told = f"{one} and {other} added {few([shown(token) for token in tokens])} in different ways"
            raise ConfigError(f"{told} (special, or stripped of blanks); say whose to use with tokenizer_from")
    talking = (
        []
        if has_chat_template(base)
        else [expert.name for expert in experts if has_chat_template(expert) and has_tokenizer(expert)]
    )
    if len(talking) > 1:
        raise ConfigError(
            f"{', '.join(talking)} each bring a chat template and the base has none; say which one to use with "
            "tokenizer_from"
        )
    return talking[0] if talking else bringing[0].name


def _apart(one: Checkpoint, other: Checkpoint) -> bool:
    if not tokenizers_differ(one, other):
        return False
    ours, theirs = (found.added if (found := read_pieces(each)) else {} for each in (one, other))
    return bool(differing_flags(ours, theirs)) or not cut_alike(one, other)


def _own(base: Checkpoint, expert: Checkpoint) -> str:
    tokens = missing_tokens(base, expert)
    return f" (with tokens of its own: {few(tokens)})" if tokens else ""


def missing_tokens(base: Checkpoint, expert: Checkpoint) -> list[str]:
    """Tokens of an expert that the base has not, for a message."""
    comparison = compared(base, expert, read_pieces)
    return [f"{shown(token)} (id {number})" for token, number in comparison.only_expert.items()] if comparison else []
