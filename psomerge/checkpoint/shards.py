"""Where each tensor of a checkpoint to be written goes, and the files that take them one by one."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import torch

from psomerge.checkpoint.config import output_dtype
from psomerge.checkpoint.header import TensorInfo, header_bytes
from psomerge.checkpoint.pins import digest_file
from psomerge.errors import ConfigError

_SMALL = 2**16
"""Bytes below which handing over to a thread takes longer than hashing."""


@dataclass(frozen=True)
class Shard:
    """A safetensors file to be written."""

    file: str
    header: bytes
    tensors: Mapping[str, TensorInfo]
    """In the order of the file; `begin` and `end` count from the file's start."""
    size: int
    """Of the file in bytes."""


def plan_shards(tensors: Mapping[str, TensorInfo], dtype: str, shard_bytes: int) -> tuple[Shard, ...]:
    """Returns the files for the given tensors, filled in their order with at most `shard_bytes` each, or one tensor
    that is larger.

    Args:
        tensors: names, shapes and dtypes; their places are not used.
        dtype: one of `psomerge.recipe.DTYPES`.
        shard_bytes: of tensors in one file, at least 1.

    Raises:
        ConfigError: `shard_bytes` is below 1, or the dtype unknown.
    """
    if shard_bytes < 1:
        raise ConfigError(f"shard size must be at least 1 byte, found {shard_bytes}")
    groups: list[dict[str, TensorInfo]] = [{}]
    filled = 0
    for name, info in tensors.items():
        written = replace(info, dtype=output_dtype(info.dtype, dtype))
        size = _bytes(written)
        if groups[-1] and filled + size > shard_bytes:
            groups.append({})
            filled = 0
        groups[-1][name] = written
        filled += size
    names = (
        ["model.safetensors"]
        if len(groups) == 1
        else [f"model-{i:05d}-of-{len(groups):05d}.safetensors" for i in range(1, len(groups) + 1)]
    )
    return tuple(_place(group, file) for group, file in zip(groups, names, strict=True))


def _bytes(info: TensorInfo) -> int:
    return torch.Size(info.shape).numel() * info.dtype.itemsize


def _place(group: Mapping[str, TensorInfo], file: str) -> Shard:
    placed: dict[str, TensorInfo] = {}
    position = 0
    # Wide dtypes first keep every tensor aligned, which loaders that map the file need.
    for name, info in sorted(group.items(), key=lambda item: -item[1].dtype.itemsize):
        placed[name] = replace(info, file=file, begin=position, end=position + _bytes(info))
        position = placed[name].end
    header = header_bytes(placed)
    shifted = {
        name: replace(info, begin=info.begin + len(header), end=info.end + len(header)) for name, info in placed.items()
    }
    return Shard(file, header, shifted, len(header) + position)


class ShardFile:
    """One shard being written: takes its tensors in any order, digests along while they come in the file's order, and
    is synced when closed."""

    def __init__(self, folder: Path, shard: Shard, hasher: ThreadPoolExecutor) -> None:
        """Creates the file, which must not exist, and writes its header. Raises OSError."""
        self._path = folder / shard.file
        self._shard = shard
        self._hasher = hasher
        self._digest = hashlib.sha256()
        self._digested = 0
        self._descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        try:
            self._write(memoryview(shard.header), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "ShardFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Writes a contiguous tensor of the planned shape and dtype, on the CPU, at its place. Raises OSError."""
        content = tensor.reshape(-1).view(torch.uint8).numpy().data
        self._write(content, self._shard.tensors[name].begin)

    def _write(self, content: memoryview, position: int) -> None:
        hashing = None
        if position == self._digested:
            self._digested += len(content)
            if len(content) < _SMALL:
                self._digest.update(content)
            else:
                # Hashing and writing both let go of the interpreter: side by side they take the time of the slower one.
                hashing = self._hasher.submit(self._digest.update, content)
        try:
            rest = content
            while rest:
                done = os.pwrite(self._descriptor, rest, position)
                rest, position = rest[done:], position + done
        finally:
            if hashing is not None:
                hashing.result()

    def finish(self) -> str:
        """Returns the file's SHA-256 in hex once it is on the disk. Raises OSError."""
        os.fchmod(self._descriptor, 0o644)
        os.fsync(self._descriptor)
        return self._digest.hexdigest() if self._digested == self._shard.size else digest_file(self._path)
