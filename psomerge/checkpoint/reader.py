"""Reading a safetensors checkpoint lazily: all is checked when it is opened, tensors are views on the mapped files.

Values are not looked at (`check_finite` does), nor is another checkpoint (`misfits` does).
"""

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from psomerge.checkpoint.config import read_config
from psomerge.checkpoint.header import MAX_TENSORS, TensorInfo, parse_header
from psomerge.checkpoint.layers import is_head, layer_order
from psomerge.checkpoint.shard_index import check_index, weight_map_of
from psomerge.checkpoint.tying import KEY, doubled_head, doubled_inputs, lacks_head, ties_head
from psomerge.errors import ArtefactError
from psomerge.files.hub_links import status_of
from psomerge.files.untrusted import MAX_TOKENIZER, listing, open_regular, read_bytes

# Private and writable: torch takes the buffer without a warning, and no write can reach the file. Not reserved: else
# Linux refuses a file larger than memory.
_MAP_FLAGS = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened checkpoint; its files stay mapped while it or one of its tensors lives."""

    folder: Path
    name: str
    """As the recipe calls it: `base`, or an expert's name."""
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    """In layer order: embeddings, layers 0, 1, ..., what follows them, output head."""
    files: Mapping[str, int]
    """Sizes in bytes of the folder's regular files, by name."""
    tied: bool
    """Whether the output head is the input embedding and not stored."""
    _maps: Mapping[str, mmap.mmap] = field(repr=False)
    _stamps: Mapping[str, "_Stamp"] = field(repr=False)
    edited: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False, kw_only=True)
    """Tokenizer files as a merged model needs them, by name, where they are not the folder's own."""

    def tensor(self, name: str, rows: slice | None = None) -> torch.Tensor:
        """Returns a tensor, or a range of rows of it, in its stored dtype: a view on the mapped file that must not be
        written to.

        Args:
            name: of the tensor.
            rows: range of dimension 0; None is all of it.

        Raises:
            ArtefactError: there is no such tensor.
        """
        info = self.tensors.get(name)
        if info is None:
            raise ArtefactError(f'"{self.name}" ({self.folder}) has no tensor {name!r}')
        whole = _view(self._maps[info.file], info)
        return whole if rows is None else whole[rows]

    def is_view(self, name: str) -> bool:
        """Returns whether a whole tensor is a view on the mapped file, so that keeping it costs no memory; one at an
        odd address is a copy."""
        info = self.tensors[name]
        return info.begin % info.dtype.itemsize == 0

    def companion(self, name: str) -> bytes:
        """Returns a file that stands beside the weights. Raises ArtefactError where it is missing or larger than a
        tokenizer can be."""
        return self.edited[name] if name in self.edited else read_bytes(self.folder / name, MAX_TOKENIZER)

    def check_unchanged(self) -> None:
        """Raises ArtefactError if a file of weights was written to or exchanged since it was opened: its tensors are
        then not what was checked."""
        for file, stamp in self._stamps.items():
            path = self.folder / file
            try:
                found = _stamp(status_of(path))
            except OSError as error:
                raise ArtefactError(
                    f'"{self.name}": {path} is gone while it is used ({error.strerror}); put it back and run the '
                    "same command again"
                ) from error
            if found != stamp:
                raise ArtefactError(
                    f'"{self.name}": {path} changed while it was used; leave the files alone until the end and run '
                    "the same command again"
                )


_Stamp = tuple[int, int, int, int]
"""What tells a file from a changed one: device, inode, size, time of the last change in nanoseconds."""


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _view(file: mmap.mmap, info: TensorInfo) -> torch.Tensor:
    if info.begin == info.end:
        return torch.empty(info.shape, dtype=info.dtype)
    count = (info.end - info.begin) // info.dtype.itemsize
    if info.begin % info.dtype.itemsize:
        # Other writers need not align; reading a float at an odd address is undefined, so this one is copied.
        return torch.frombuffer(bytearray(file[info.begin : info.end]), dtype=info.dtype, count=count).view(info.shape)
    return torch.frombuffer(file, dtype=info.dtype, count=count, offset=info.begin).view(info.shape)


def open_checkpoint(folder: Path, name: str = "") -> Checkpoint:
    """Returns the checkpoint in a folder, its files mapped and their structure checked.

    Args:
        folder: with config.json and model.safetensors, or shards and their index.
        name: that messages and recipes use; the folder's own name if empty.

    Raises:
        ArtefactError: something is missing, damaged, unsafe or contradicts itself; the text says what and where.
    """
    folder = Path(folder)
    files = listing(folder)
    config = read_config(folder, files)
    weight_map = weight_map_of(folder, files)
    maps: dict[str, mmap.mmap] = {}
    stamps: dict[str, _Stamp] = {}
    found: dict[str, dict[str, TensorInfo]] = {}
    for file in sorted(set(weight_map.values())) if weight_map else ["model.safetensors"]:
        maps[file], stamps[file], found[file] = map_file(folder / file)
    tensors = settled(found, weight_map, config, maps, folder=folder)
    tied = not any(map(is_head, tensors))
    return Checkpoint(
        folder,
        name or folder.resolve().name,
        MappingProxyType(config),
        MappingProxyType(tensors),
        MappingProxyType(files),
        tied,
        maps,
        stamps,
    )


def settled(
    found: Mapping[str, Mapping[str, TensorInfo]],
    weight_map: Mapping[str, str],
    config: Mapping[str, Any],
    maps: Mapping[str, mmap.mmap],
    *,
    folder: Path,
) -> dict[str, TensorInfo]:
    """Returns the tensors of all files in layer order, without a stored copy of a tied output head.

    Args:
        found: tensors by file.
        weight_map: by `weight_map_of`.
        config: of the checkpoint.
        maps: the files; none where only headers are here: values are not compared then.
        folder: for messages.

    Raises:
        ArtefactError: files, index and config contradict each other.
    """
    tensors: dict[str, TensorInfo] = {}
    for file, infos in found.items():
        for tensor, info in infos.items():
            if tensor in tensors:
                raise ArtefactError(
                    f"{folder}: tensor {tensor!r} stands in both {tensors[tensor].file} and {file}; expected it once"
                )
            tensors[tensor] = info
    if weight_map:
        check_index(weight_map, tensors, folder, untied=ties_head(config) is False)
    if len(tensors) > MAX_TENSORS:
        raise ArtefactError(f"{folder}: {len(tensors)} tensors, expected at most {MAX_TENSORS}")
    _settle_head(tensors, maps, config, folder=folder)
    return {tensor: tensors[tensor] for tensor in sorted(tensors, key=layer_order)}


def map_file(path: Path) -> tuple[mmap.mmap, _Stamp, dict[str, TensorInfo]]:
    """Returns a safetensors file mapped, what tells it from a changed one, and its tensors. Raises ArtefactError as
    `open_regular` and `parse_header`."""
    descriptor = open_regular(path)
    try:
        status = os.fstat(descriptor)
        size = status.st_size
        if size == 0:
            raise ArtefactError(f"{path}: truncated: the file is empty; fetch it again")
        mapped = mmap.mmap(descriptor, size, flags=_MAP_FLAGS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be mapped: {error.strerror}") from error
    finally:
        os.close(descriptor)
    with memoryview(mapped) as content:
        return mapped, _stamp(status), parse_header(content, size, path.name, str(path))


def _settle_head(
    tensors: dict[str, TensorInfo], maps: Mapping[str, mmap.mmap], config: Mapping[str, Any], *, folder: Path
) -> None:
    """Removes stored copies of the input embedding: an encoder's, a decoder's, a tied output head. Refuses a head about
    which loaders would disagree, or which they would make up."""

    def equal(one: TensorInfo, other: TensorInfo) -> bool:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return not maps or torch.equal(_view(maps[one.file], one), _view(maps[other.file], other))

    for copy, shared in doubled_inputs(tensors):
        if equal(tensors[copy], tensors[shared]):
            del tensors[copy]
    if doubled := doubled_head(tensors, config):
        head, embedding = doubled
        if equal(tensors[head], tensors[embedding]):
            del tensors[head]
        elif not config.get("is_encoder_decoder"):  # there every loader takes the head that is stored
            raise ArtefactError(
                f"{folder}: {head!r} is {embedding!r} by {_said(config)}, but the files hold two different ones, and "
                f"not all loaders take the one that is stored; set {KEY} to false in config.json if it is right"
            )
    elif lacks_head(tensors, config):
        raise ArtefactError(
            f"{folder}: has no 'lm_head.weight', which by {_said(config)} is not the embedding; set {KEY} to true in "
            "config.json if it is"
        )


def _said(config: Mapping[str, Any]) -> str:
    """Who says whether the head is tied."""
    return f"config.json ({KEY})" if KEY in config else f"the default of its class ({config['model_type']})"
