"""Which file of a checkpoint holds which tensor, by model.safetensors.index.json, held against the files' names and
what is in them."""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.layers import is_head, is_left_aside
from psomerge.checkpoint.tying import tied_copy
from psomerge.errors import ArtefactError
from psomerge.files.names import INDEX
from psomerge.files.untrusted import MAX_INDEX, read_json
from psomerge.screening.formats import refuse_other_formats

_ADVICE = "the index is of another checkpoint: fetch both again from one place, or save the model again"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


def weight_map_of(folder: Path, files: Mapping[str, int]) -> dict[str, str]:
    """Returns the file of each tensor by the index; empty where one file holds them all.

    Args:
        folder: with the index, if there is one.
        files: sizes in bytes of the checkpoint's files, by name.

    Raises:
        ArtefactError: the index is damaged, leads outside the folder, or does not fit the files that there are.
    """
    shards = [file for file in files if _SHARD.fullmatch(file)]
    if INDEX not in files:
        _check_single(folder, files, shards)
        return {}
    if "model.safetensors" in files:
        raise ArtefactError(
            f"{folder}: holds both model.safetensors and {INDEX}; loaders disagree about which one counts: remove one"
        )
    stored: object = read_json(folder / INDEX, MAX_INDEX).get("weight_map")
    weight_map = cast("dict[str, str]", stored) if isinstance(stored, dict) else {}
    if not weight_map or not all(isinstance(file, str) for file in cast("dict[str, object]", weight_map).values()):
        raise ArtefactError(f"{folder / INDEX}: expected weight_map to give a file for every tensor")
    for tensor, file in weight_map.items():
        if "/" in file or "\\" in file or file in ("", ".", ".."):
            raise ArtefactError(
                f"{folder / INDEX}: tensor {tensor!r} is said to be in {reprlib.repr(file)}, which points outside "
                "the folder; expected a plain file name"
            )
        if not file.endswith(".safetensors") or not file.isprintable():
            raise ArtefactError(
                f"{folder / INDEX}: tensor {tensor!r} is said to be in {reprlib.repr(file)}; expected a .safetensors "
                "file"
            )
        if file not in files:
            raise ArtefactError(f"{folder / INDEX}: names the shard {file!r}, which the folder lacks; fetch it again")
    named = set(weight_map.values())
    if spare := [shard for shard in shards if shard not in named]:
        raise ArtefactError(
            f"{folder}: the shard {spare[0]!r} is not in {INDEX}; remove what is left of another checkpoint"
        )
    return weight_map


def _check_single(folder: Path, files: Mapping[str, int], shards: list[str]) -> None:
    if shards and "model.safetensors" in files:
        raise ArtefactError(
            f"{folder}: holds both model.safetensors and the shard {shards[0]!r}; remove what is left of another "
            "checkpoint"
        )
    if shards:
        raise ArtefactError(f"{folder}: holds shards ({shards[0]!r}, ...) but no {INDEX}; fetch it, too")
    if "model.safetensors" in files:
        return
    refuse_other_formats(folder, files)
    other = next((file for file in files if file.endswith(".safetensors")), None)
    found = f"found {other!r}" if other else "found no weights"
    raise ArtefactError(f"{folder}: expected model.safetensors, or shards and {INDEX}; {found}")


def check_index(
    weight_map: Mapping[str, str], tensors: Mapping[str, TensorInfo], folder: Path, *, untied: bool = False
) -> None:
    """Raises ArtefactError unless the index names the tensors that the files hold, each in its file; a copy of the
    embedding that only one of both has (a tied head, as some trainers leave it in the index) is no fault, nor is what
    no class takes.

    Args:
        weight_map: by `weight_map_of`.
        tensors: that the files hold.
        folder: for messages.
        untied: whether the config says that the output head is a tensor of its own.
    """
    for tensor, file in weight_map.items():
        if tensor not in tensors:
            if is_left_aside(tensor):
                continue
            if not (copied := tied_copy(tensor, tensors)):
                raise ArtefactError(
                    f"{folder / INDEX}: says that {file} holds tensor {tensor!r}, but no shard does; {_ADVICE}"
                )
            if untied and is_head(tensor):
                raise ArtefactError(
                    f"{folder / INDEX}: says that {file} holds tensor {tensor!r}, but no shard does, and config.json "
                    "says tie_word_embeddings is false; fetch the shards again, or set it to true if the head is "
                    f"{copied!r}"
                )
        elif tensors[tensor].file != file:
            raise ArtefactError(
                f"{folder / INDEX}: says that {file} holds tensor {tensor!r}, but {tensors[tensor].file} does; "
                "fetch both again from one place"
            )
    for tensor, info in tensors.items():
        if tensor in weight_map or is_left_aside(tensor):
            continue
        if untied or not tied_copy(tensor, tensors):
            raise ArtefactError(
                f"{folder / info.file}: holds tensor {tensor!r}, which {INDEX} does not name; {_ADVICE}"
            )
