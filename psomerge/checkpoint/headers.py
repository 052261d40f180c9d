"""A checkpoint of which only the small files and the headers of its weights are here: enough to say whether it fits,
before gigabytes are fetched.

Nobody must ask it for a tensor.
"""

import mmap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from psomerge.checkpoint.adapter import Adapter, adapter_of
from psomerge.checkpoint.adapter_config import read_adapter_config
from psomerge.checkpoint.adapter_keys import read_key
from psomerge.checkpoint.adapter_parts import OF_BASE
from psomerge.checkpoint.config import read_config
from psomerge.checkpoint.header import parse_header
from psomerge.checkpoint.layers import is_head
from psomerge.checkpoint.layout import laid_out
from psomerge.checkpoint.plain_names import Names
from psomerge.checkpoint.reader import Checkpoint, settled
from psomerge.checkpoint.shard_index import weight_map_of
from psomerge.files.names import ADAPTER, adapter_weights
from psomerge.screening.companions import check_companions

GUESS = 2**16
"""Bytes from a weights file's start in which most headers end, where no index tells what the file holds."""
_ENTRY = 128
"""Bytes that a tensor takes in a header beside its name, at most in most files."""


def header_guesses(folder: Path, files: Mapping[str, int]) -> dict[str, int]:
    """Returns the weights files that make up a checkpoint or adapter, and in how many bytes from its start the header
    of each will end, most likely.

    Args:
        folder: with the shard index, if there is one.
        files: sizes of all files of the checkpoint in bytes, by name, wherever they are.

    Raises:
        ArtefactError: names and index contradict each other.
    """
    if ADAPTER in files:
        return {adapter_weights(files): GUESS}
    weight_map = weight_map_of(folder, files)
    if not weight_map:
        return {"model.safetensors": GUESS}
    guesses = dict.fromkeys(sorted(set(weight_map.values())), 8 + _ENTRY)
    for tensor, file in weight_map.items():
        guesses[file] += len(tensor) + _ENTRY
    return guesses


def checkpoint_of_headers(
    folder: Path, name: str, files: Mapping[str, int], headers: Mapping[str, bytes], base: Checkpoint | None
) -> Checkpoint:
    """Returns the checkpoint that files are of, or what an adapter makes of its base, checked as far as it can be
    without the tensors' values.

    Args:
        folder: with config, tokenizer and shard index.
        name: that messages use: `base`, or an expert's name.
        files: as of `header_guesses`.
        headers: the first bytes of each weights file named there, with the whole header.
        base: that an adapter was trained on, or whose names an expert's tensors get; None for a base itself.

    Raises:
        ArtefactError: as `psomerge.checkpoint.reader.open_checkpoint` and `open_adapter`.
    """
    found = {file: parse_header(content, files[file], file, str(folder / file)) for file, content in headers.items()}
    empty = Checkpoint(folder, name, {}, {}, MappingProxyType(dict(files)), False, {}, {})
    if ADAPTER in files and base is not None:
        check_companions(folder, files)
        return _adapter(replace(empty, config=read_adapter_config(folder), tensors=found[adapter_weights(files)]), base)
    config = read_config(folder, files)
    tensors = settled(found, weight_map_of(folder, files), config, {}, folder=folder)
    seen = replace(
        empty, config=MappingProxyType(config), tensors=MappingProxyType(tensors), tied=not any(map(is_head, tensors))
    )
    return seen if base is None else laid_out(seen, base)


def _adapter(stored: Checkpoint, base: Checkpoint) -> Adapter:
    """The adapter's factors are views on pages that nobody has filled and nobody reads: they take no memory."""
    weights = adapter_weights(stored.files)
    size = stored.files[weights]
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))
    # What is the base's own is told from a tensor that was trained by its values only.
    names = Names(base.tensors)
    keys = {tensor: read_key(tensor, names) for tensor in stored.tensors}
    own = {tensor: info for tensor, info in stored.tensors.items() if keys[tensor].kind not in OF_BASE}
    return replace(adapter_of(replace(stored, tensors=own, _maps={weights: pages}), base, values=False), stored=stored)
