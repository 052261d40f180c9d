"""Do the experts fit their base and each other: everything that must hold before the first judgement."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.fit.differences import differences
from psomerge.fit.distance import distance_warnings, measure
from psomerge.fit.misfits import all_misfits, misfit
from psomerge.fit.vocabulary import compared
from psomerge.fit.warning import FitWarning
from psomerge.merge.basis import Basis, basis_of, open_expert
from psomerge.tasks.experts.class_defaults import spelt_out
from psomerge.tasks.experts.numbering import check_numbering
from psomerge.tasks.experts.pieces import read_pieces
from psomerge.vocabulary.aligned import align
from psomerge.vocabulary.tokenizer import differing_flags, has_chat_template, has_tokenizer, tokenizers_differ
from psomerge.vocabulary.tokens import AddedToken, few, placeholder, same_files, shown


@dataclass(frozen=True)
class Checked:
    """What a run stands on."""

    basis: Basis
    tokenizer_from: str
    """Name of the model whose tokenizer, chat template, generation config and stop tokens are used."""
    warnings: tuple[FitWarning, ...] = ()


def check(folders: Mapping[str, Path], tokenizer_from: str | None) -> Checked:
    """Returns the opened basis, whose tokenizer is used, and what a user should know about the experts.

    Args:
        folders: local folder of `base` and of every expert by name.
        tokenizer_from: what the config says, None if nothing.

    Raises:
        ArtefactError: checkpoints are broken, hold values that are not finite, or do not fit; all misfits of all of
            them are listed.
        ConfigError: several tokenizers differ and none is chosen.
    """
    opened, broken = open_all(folders)
    base = opened.pop("base", None)
    experts = list(opened.values())
    if base is None:
        raise ArtefactError("; ".join(broken))
    lines = broken + all_misfits(base, experts, read_pieces, spelt_out)
    if lines:
        raise misfit(lines + measure(base, experts)[1], base.folder)
    basis, name = merging_basis(base, experts, tokenizer_from)  # before the weights are read: a choice may be wanting
    distances, faults = measure(basis.base, basis.experts)
    if faults:
        raise ArtefactError("; ".join(faults))
    return Checked(basis, name, (*told_by_files(base, experts, name), *distance_warnings(distances)))


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


def told_by_files(base: Checkpoint, experts: Sequence[Checkpoint], tokenizer_from: str) -> list[FitWarning]:
    """Returns what the files beside the weights of experts that fit say that a user should know. Raises ArtefactError
    where one is damaged."""
    chosen = {one.name: one for one in experts}.get(tokenizer_from, base)
    found = [
        warning
        for expert in experts
        for warning in (*differences(base, expert, chosen), *token_warnings(expert, chosen))
    ]
    merged: dict[str, AddedToken] = {}
    apart = list(dict.fromkeys((chosen, base, *(expert for expert in experts if not same_files(base, expert)))))
    for one in apart if len(apart) > 1 else ():
        own = vocabulary.added if (vocabulary := read_pieces(one)) else {}
        if tokens := differing_flags(own, merged):
            advice = (
                f'"{chosen.name}", else the first of the others, decides whether they are special and take blanks along'
            )
            found.append(
                FitWarning(
                    one.name,
                    "added tokens",
                    "found in a text as the others find them",
                    few([shown(token) for token in tokens]),
                    advice,
                )
            )
        merged |= {token: entry for token, entry in own.items() if token not in merged}
    return found


def open_all(folders: Mapping[str, Path]) -> tuple[dict[str, Checkpoint], list[str]]:
    """Returns the checkpoints that can be opened, by name, and a line for each that cannot; an adapter of a base that
    cannot be opened is left out.

    Args:
        folders: local folder of `base` and of every expert by name, the base first.
    """
    opened: dict[str, Checkpoint] = {}
    broken: list[str] = []
    for name, folder in folders.items():
        try:
            opened[name] = (
                open_expert(folder, name, opened["base"]) if "base" in opened else open_checkpoint(folder, name)
            )
        except ArtefactError as error:
            broken.append(f'"{name}": {error}')
    return opened, broken


def choose_tokenizer(base: Checkpoint, experts: Sequence[Checkpoint], given: str | None) -> str:
    """Returns the name given, else `base`, or the one expert that has a chat template where the base has none.

    Raises:
        ConfigError: nothing is given, and tokenizers differ or several experts bring a chat template.
        ArtefactError: a tokenizer file is damaged.
    """
    if given is not None:
        return given
    differing = [f"{expert.name}{_own(base, expert)}" for expert in experts if tokenizers_differ(base, expert)]
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
    return talking[0] if talking else "base"


def _own(base: Checkpoint, expert: Checkpoint) -> str:
    tokens = _missing(base, expert)
    return f" (with tokens of its own: {few(tokens)})" if tokens else ""


def _missing(base: Checkpoint, expert: Checkpoint) -> list[str]:
    """Tokens of an expert that the base has not, for a message."""
    comparison = compared(base, expert, read_pieces)
    return [f"{shown(token)} (id {number})" for token, number in comparison.only_expert.items()] if comparison else []


def token_warnings(expert: Checkpoint, chosen: Checkpoint) -> Iterator[FitWarning]:
    """Yields what the merged model's tokenizer, that of `chosen` with what others added, does not do as an expert's.
    Raises ArtefactError as `compared`.

    Tokens are lost that stand among an expert's pieces, as no tokenizer can be given them, and all of its own where
    `chosen` has no tokenizer.json.
    """
    own = compared(chosen, expert, read_pieces)
    if own is None or (theirs := read_pieces(expert)) is None:
        return
    taken = {
        token: theirs.added[token]
        for token in own.only_expert
        if token in theirs.added and "tokenizer.json" in chosen.files
    }
    lost = [
        f"{shown(token)} (id {number})"
        for token, number in own.only_expert.items()
        if token not in taken and not placeholder(token)
    ]
    words = [shown(token) for token, one in taken.items() if token.strip().isalnum() and not one.special]
    if lost:
        advice = "where its texts need them, choose a tokenizer that has them with tokenizer_from"
        yield FitWarning(expert.name, "tokens of its own", f"those of {chosen.name} only", few(lost), advice)
    if words:
        yield FitWarning(
            expert.name,
            "added words",
            "special tokens",
            few(words),
            "texts of the others with these words are cut as it cuts them",
        )


def examine(base: Checkpoint | None, models: Sequence[Checkpoint]) -> tuple[list[str], list[FitWarning]]:
    """Returns everything that is wrong with opened models, and what a user should know about them; each on its own, as
    the only expert of the base.

    Args:
        base: that they should fit, None if only the models themselves count.
        models: with different names.
    """
    if base is None:
        return [line for model in models for line in measure(model, [])[1]], []
    unfit = all_misfits(base, models, read_pieces, spelt_out)
    distances, faults = measure(base, models) if unfit else measure(*align(base, models, base)[:2])
    lines = unfit + faults
    return lines, [] if lines else [warning for model in models for warning in _alone(base, model)] + distance_warnings(
        distances
    )


def _alone(base: Checkpoint, model: Checkpoint) -> list[FitWarning]:
    try:
        chosen = {"base": base}.get(choose_tokenizer(base, [model], None), model)
    except ConfigError:
        own = _missing(base, model)
        found = f"another, with tokens of its own: {few(own)}" if own else "one that cuts text otherwise"
        advice = "a run with it must say tokenizer_from"
        return [FitWarning(model.name, "tokenizer", "the base's", found, advice), *differences(base, model, base)]
    return differences(base, model, chosen)
