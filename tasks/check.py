"""Do the experts fit their base and each other: everything that must hold before the first judgement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psomerge.basis import Basis, basis_of, open_expert
from psomerge.checkpoint import Checkpoint, all_misfits, differences, has_chat_template, has_tokenizer, misfit, open_checkpoint, tokenizers_differ
from psomerge.checkpoint.distance import distance_warnings, measure
from psomerge.checkpoint.vocabulary import few, shown
from psomerge.checkpoint.vocabulary_fit import compared
from psomerge.errors import ArtefactError, ConfigError
from psomerge.fit_warning import FitWarning
from tasks.pieces import read_pieces


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
        ArtefactError: checkpoints are broken, hold values that are not finite, or do not fit; all misfits of all of them are listed.
        ConfigError: several tokenizers differ and none is chosen.
    """
    opened, broken = open_all(folders)
    base = opened.pop("base", None)
    experts = list(opened.values())
    if base is None:
        raise ArtefactError("; ".join(broken))
    lines = broken + all_misfits(base, experts, read_pieces)
    name = "base" if lines else choose_tokenizer(base, experts, tokenizer_from)  # no use in reading the weights where nothing is chosen
    distances, faults = measure(base, experts)
    if lines:
        raise misfit(lines + faults, base.folder)
    if faults:
        raise ArtefactError("; ".join(faults))
    chosen = opened.get(name, base)
    told = [warning for expert in experts for warning in (*differences(base, expert, chosen), *lost_tokens(expert, chosen))]
    return Checked(basis_of(base, experts), name, (*told, *distance_warnings(distances)))


def open_all(folders: Mapping[str, Path]) -> tuple[dict[str, Checkpoint], list[str]]:
    """Returns the checkpoints that can be opened, by name, and a line for each that cannot; an adapter of a base that cannot be opened is left out.

    Args:
        folders: local folder of `base` and of every expert by name, the base first.
    """
    opened: dict[str, Checkpoint] = {}
    broken: list[str] = []
    for name, folder in folders.items():
        try:
            opened[name] = open_expert(folder, name, opened["base"]) if "base" in opened else open_checkpoint(folder, name)
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
        raise ConfigError(f"the tokenizers of {', '.join(differing)} differ from the base's; say which one to use with tokenizer_from")
    talking = [] if has_chat_template(base) else [expert.name for expert in experts if has_chat_template(expert) and has_tokenizer(expert)]
    if len(talking) > 1:
        raise ConfigError(f"{', '.join(talking)} each bring a chat template and the base has none; say which one to use with tokenizer_from")
    return talking[0] if talking else "base"


def _own(base: Checkpoint, expert: Checkpoint) -> str:
    tokens = _missing(base, expert)
    return f" (with tokens of its own: {few(tokens)})" if tokens else ""


def _missing(chosen: Checkpoint, expert: Checkpoint) -> list[str]:
    """Tokens of an expert that a chosen model's tokenizer has not, for a message."""
    comparison = compared(chosen, expert, read_pieces)
    return [f"{shown(token)} (id {number})" for token, number in comparison.only_expert.items()] if comparison else []


def lost_tokens(expert: Checkpoint, chosen: Checkpoint) -> list[FitWarning]:
    """Returns a warning where an expert was trained with tokens that the merged model's tokenizer will not have. Raises ArtefactError as `compared`."""
    tokens = _missing(chosen, expert)
    advice = "where its texts need them, choose a tokenizer that has them with tokenizer_from"
    return [FitWarning(expert.name, "tokens of its own", f"those of {chosen.name} only", few(tokens), advice)] if tokens else []


def examine(base: Checkpoint | None, models: Sequence[Checkpoint]) -> tuple[list[str], list[FitWarning]]:
    """Returns everything that is wrong with opened models, and what a user should know about them; each on its own, as the only expert of the base.

    Args:
        base: that they should fit, None if only the models themselves count.
        models: with different names.
    """
    if base is None:
        return [line for model in models for line in measure(model, [])[1]], []
    distances, faults = measure(base, models)
    lines = all_misfits(base, models, read_pieces) + faults
    return lines, [] if lines else [warning for model in models for warning in _alone(base, model)] + distance_warnings(distances)


def _alone(base: Checkpoint, model: Checkpoint) -> list[FitWarning]:
    try:
        chosen = {"base": base}.get(choose_tokenizer(base, [model], None), model)
    except ConfigError:
        own = _missing(base, model)
        found = f"another, with tokens of its own: {few(own)}" if own else "one that cuts text otherwise"
        advice = "a run with it must say tokenizer_from"
        return [FitWarning(model.name, "tokenizer", "the base's", found, advice), *differences(base, model, base)]
    return differences(base, model, chosen)
