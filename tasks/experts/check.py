"""Do the experts fit their base and each other: everything that must hold before the first judgement."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError, ConfigError
from psomerge.fit.differences import differences
from psomerge.fit.distance import distance_warnings, measure
from psomerge.fit.misfits import all_misfits, buffer_misfits
from psomerge.fit.vocabulary import compared
from psomerge.fit.warning import FitWarning
from psomerge.merge.basis import Basis
from psomerge.tasks.experts.class_defaults import loading, spelt_out
from psomerge.tasks.experts.companions import companion_warnings, missing_tokenizer
from psomerge.tasks.experts.fitting import choose_tokenizer, missing_tokens, open_fitting
from psomerge.tasks.experts.pieces import read_pieces
from psomerge.vocabulary.aligned import align
from psomerge.vocabulary.tokenizer import differing_flags
from psomerge.vocabulary.tokens import AddedToken, few, placeholder, same_files, shown


@dataclass(frozen=True)
class Checked:
    """What a run stands on."""

    basis: Basis
    tokenizer_from: str
    """As of `Fitting`."""
    warnings: tuple[FitWarning, ...] = ()


def check(folders: Mapping[str, Path], tokenizer_from: str | None) -> Checked:
    """Returns the opened basis, whose tokenizer is used, and what a user should know about the experts. All weights are
    read.

    Args:
        folders, tokenizer_from: as of `open_fitting`.

    Raises:
        ArtefactError, ConfigError: as `open_fitting`; values that are not finite, too.
    """
    found = open_fitting(folders, tokenizer_from, faults=lambda base, experts: measure(base, experts)[1])
    distances, faults = measure(found.basis.base, found.basis.experts)
    if faults:
        raise ArtefactError("\n".join(faults))
    told = file_warnings(found.base, found.experts, found.tokenizer_from)
    return Checked(found.basis, found.tokenizer_from, (*told, *distance_warnings(distances)))


def file_warnings(base: Checkpoint, experts: Sequence[Checkpoint], tokenizer_from: str) -> list[FitWarning]:
    """Returns what the files beside the weights of experts that fit say that a user should know. Raises ArtefactError
    where one is damaged."""
    chosen = {one.name: one for one in experts}.get(tokenizer_from, base)
    found = [
        warning
        for expert in experts
        for warning in (*differences(base, expert, chosen), *token_warnings(expert, chosen))
    ]
    found += companion_warnings(experts, chosen)
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


_REWRITING = "transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"


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
        if "tokenizer.json" not in chosen.files and any(token in theirs.added for token in own.only_expert):
            advice += f", or give {chosen.name} a tokenizer.json, into which they can be merged: {_REWRITING}"
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
        return [line for model in models for line in measure(model, [])[1]], list(missing_tokenizer(models))
    unfit = [*all_misfits(base, models, read_pieces, spelt_out, loading), *buffer_misfits(base, models)]
    distances, faults = measure(base, models) if unfit else measure(*align(base, models, base)[:2])
    lines = unfit + faults
    if lines:
        return lines, []
    told = [warning for model in models for warning in _alone(base, model)]
    return lines, [*told, *missing_tokenizer(models, base), *distance_warnings(distances)]


def _alone(base: Checkpoint, model: Checkpoint) -> list[FitWarning]:
    try:
        chosen = {"base": base}.get(choose_tokenizer(base, [model], None), model)
    except ConfigError:
        own = missing_tokens(base, model)
        found = f"another, with tokens of its own: {few(own)}" if own else "one that cuts text otherwise"
        advice = "a run with it must say tokenizer_from"
        return [FitWarning(model.name, "tokenizer", "the base's", found, advice), *differences(base, model, base)]
    return differences(base, model, chosen)
