"""Whether an expert can be merged with a base, by config, tokenizer and headers; what its weights hold is `distance`'s
and `finite`'s."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from psomerge.checkpoint.config import main_dtype, stored_dtype
from psomerge.checkpoint.layout import LaidOut, laid_out
from psomerge.checkpoint.plain_names import unwrapped
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.fit.loading import Load
from psomerge.fit.numerics import Resolve, contradictions, parts
from psomerge.fit.settings import SHAPE_FIELDS
from psomerge.fit.vocabulary import compared, vocabulary_misfits
from psomerge.screening.formats import resaving
from psomerge.vocabulary.tokens import Reader, few, read_vocabulary

MAX_LISTED = 8
"""Misfits of one expert in an error's text; `misfits` returns them all."""


def misfits(
    base: Checkpoint,
    expert: Checkpoint,
    read: Reader = read_vocabulary,
    resolve: Resolve = lambda config: None,
    load: Load = lambda config: None,
) -> list[str]:
    """Returns what keeps an expert from being merged with a base, one line each, all of them; empty if it fits. No
    weights are read.

    Args:
        base, expert: opened, or their headers only.
        read: gives a checkpoint's vocabulary.
        resolve: gives a config with every setting that its class has, None where it has no such class; asked where
            two configs do not say the same.
        load: gives how the class of a config loads a checkpoint, None where it has no such class; asked where tensors
            have no partner.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    told = [*_config_misfits(base, expert, resolve), *vocabulary_misfits(base, expert, compared(base, expert, read))]
    return [f'expert "{expert.name}" {line}' for line in (*told, *_tensor_misfits(base, expert, load))]


def all_misfits(
    base: Checkpoint,
    experts: Sequence[Checkpoint],
    read: Reader = read_vocabulary,
    resolve: Resolve = lambda config: None,
    load: Load = lambda config: None,
) -> list[str]:
    """Returns what makes a base none, and the misfits of all experts with it; of each the first few and the number of
    the rest.

    A tokenizer file that is damaged is one of them. Arguments as `misfits`.
    """
    lines = [*_wrapped(base)]
    read = cache(read)
    for expert in experts:
        try:
            found = misfits(base, expert, read, resolve, load)
        except ArtefactError as error:
            found = [str(error)]
        lines += [line for line in found[:MAX_LISTED] if line not in lines]
        if len(found) > MAX_LISTED:
            lines.append(f'"{expert.name}" has {len(found) - MAX_LISTED} more misfits')
    return lines


def _wrapped(base: Checkpoint) -> Iterator[str]:
    """An expert's tensors are found under such names; a merged model has the base's names, and no loader knows them."""
    for name in base.tensors:
        if (inner := unwrapped(name)) != name:
            yield (
                f"the base ({base.folder}) names tensors as a trainer wrapped them, such as {name!r} for {inner!r}: "
                "transformers would draw each of them anew; save the model inside (model.module, model._orig_mod, "
                "model.pretrained_model) with save_pretrained, or PEFT's merge_and_unload()"
            )
            return


def misfit(lines: Sequence[str], base: Path) -> ArtefactError:
    """Returns the error, to be raised, that tells all misfits, on a line each."""
    return ArtefactError("\n".join(lines) + f"\nmerge only checkpoints fine-tuned from one base ({base})")


def buffer_misfits(base: Checkpoint, experts: Sequence[Checkpoint]) -> list[str]:
    """Returns a line for every tensor of integers in which an expert has other values than the base; tensors whose
    headers do not fit are `misfits`'."""
    return [
        f'expert "{expert.name}" has other values in the {_short(ours.dtype)} tensor {name!r} than the base; only '
        "float tensors can be merged"
        for name, ours in base.tensors.items()
        if not ours.dtype.is_floating_point
        for expert in experts
        if (theirs := expert.tensors.get(name))
        and (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        and not torch.equal(base.tensor(name), expert.tensor(name))
    ]


def _config_misfits(base: Checkpoint, expert: Checkpoint, resolve: Resolve) -> Iterator[str]:
    for key in ("architectures", "model_type"):
        if base.config[key] != expert.config[key]:
            yield f"has {key} {reprlib.repr(expert.config[key])}, the base {reprlib.repr(base.config[key])}"
    theirs = _shape_fields(expert.config)
    for key, value in _shape_fields(base.config).items():
        # A config may leave out what equals its class's default: only two that both speak can contradict each other.
        if key in theirs and theirs[key] != value:
            yield f"has {key} {reprlib.repr(theirs[key])} in its config.json, the base {reprlib.repr(value)}"
    yield from map(str, contradictions(base.config, expert.config, resolve))


def _shape_fields(config: Mapping[str, Any]) -> dict[str, object]:
    return {
        prefix + key: value
        for prefix, section in parts(config)
        for key, value in section.items()
        if key in SHAPE_FIELDS and value is not None
    }


def _tensor_misfits(base: Checkpoint, expert: Checkpoint, load: Load) -> Iterator[str]:
    laid = laid_out(expert, base)
    if isinstance(laid, LaidOut):
        yield from _unmatched(base, laid, load)
    declared = stored_dtype(expert.config, str(expert.folder / "config.json"))
    common = main_dtype(expert.tensors.values())
    for name, ours in base.tensors.items():
        theirs = laid.tensors[name]
        if theirs.dtype != ours.dtype and (doubt := _other_half(theirs.dtype, declared or common)):
            says = f"its config says {doubt}" if declared else f"its other tensors are in {doubt}"
            yield (
                f"has tensor {name!r} in {_short(theirs.dtype)}, but {says} and the base has it in "
                f"{_short(ours.dtype)}; where the header is right, write dtype {_short(theirs.dtype)} into its "
                f"config.json, else save it again"
            )


def _unmatched(base: Checkpoint, expert: LaidOut, load: Load) -> Iterator[str]:
    """Yields the tensors for which there is no partner and which the class needs."""
    if not (expert.taken or expert.left_out):
        return
    loading, stored = load(base.config), expert.inner.tensors
    lacking = [name for name in expert.taken if not (loading and loading.does_without(name, base.tensors[name]))]
    spare = [name for name in expert.left_out if not (loading and loading.ignores(name, stored[name]))]
    if lacking and spare and not stored.keys() & {*lacking} and _values(base, lacking) == _values(expert.inner, spare):
        yield (
            f"is the same model in another layout: it has {few([*map(repr, spare)])} where the base has "
            f"{few([*map(repr, lacking)])}, as many values; save both again with one version of transformers, this one "
            f"with: {resaving(expert.folder, expert.config['architectures'][0])}"
        )
        return
    for name in lacking:
        ours, theirs = base.tensors[name], stored.get(name)
        if theirs is None:
            yield f"has no tensor {name!r} that the base has"
        elif theirs.shape != ours.shape:
            yield f"has tensor {name!r} of shape {list(theirs.shape)}, the base {list(ours.shape)}"
        else:
            yield f"has tensor {name!r} in {_short(theirs.dtype)}, the base in {_short(ours.dtype)}"
    for name in spare:
        yield f"has tensor {name!r} that the base has not"


def _values(one: Checkpoint, names: Sequence[str]) -> int:
    return sum(torch.Size(one.tensors[name].shape).numel() for name in names)


def _other_half(stored: torch.dtype, said: torch.dtype) -> str:
    """Returns the other type of 16 bits where that is what is said of a tensor that is stored in one, else nothing: the
    header is the truth but where the same bytes could have been meant as the other."""
    return _short(said) if {stored, said} == {torch.float16, torch.bfloat16} else ""


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
