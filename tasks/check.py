"""Do the experts fit their base and each other: everything that must hold before the first judgement."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from psomerge.basis import Basis, open_basis
from psomerge.checkpoint import Checkpoint, check_finite, check_fit, has_chat_template, tokenizers_differ
from psomerge.errors import ConfigError


def check(folders: Mapping[str, Path], tokenizer_from: str | None) -> tuple[Basis, str]:
    """Returns the opened basis and the name of the model whose tokenizer, chat template and generation config are used.

    Args:
        folders: local folder of `base` and of every expert by name.
        tokenizer_from: what the config says, None if nothing.

    Raises:
        ArtefactError: a checkpoint is broken, holds values that are not finite, or does not fit; all misfits are listed.
        ConfigError: several tokenizers differ and none is chosen.
    """
    basis = open_basis(folders)
    check_fit(basis.base, basis.experts)
    for checkpoint in (basis.base, *basis.experts):
        check_finite(checkpoint)
    return basis, choose_tokenizer(basis.base, basis.experts, tokenizer_from)


def choose_tokenizer(base: Checkpoint, experts: Sequence[Checkpoint], given: str | None) -> str:
    """Returns the name given, else `base`, or the one expert that has a chat template where the base has none.

    Raises:
        ConfigError: nothing is given, and tokenizers differ or several experts bring a chat template.
    """
    if given is not None:
        return given
    differing = [expert.name for expert in experts if tokenizers_differ(base, expert)]
    if differing:
        raise ConfigError(f"the tokenizers of {', '.join(differing)} differ from the base's; say which one to use with tokenizer_from")
    talking = [] if has_chat_template(base) else [expert.name for expert in experts if has_chat_template(expert)]
    if len(talking) > 1:
        raise ConfigError(f"{', '.join(talking)} each bring a chat template and the base has none; say which one to use with tokenizer_from")
    return talking[0] if talking else "base"
