"""Writing a merged checkpoint that other programs read: one tensor at a time, whole or not at all.

It computes no merge and rounds only where the caller's tensors are wider than the dtype to be written.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import torch

from psomerge.checkpoint.config import main_dtype, merged_config
from psomerge.checkpoint.finite import check_finite_tensor
from psomerge.checkpoint.reader import Checkpoint
from psomerge.checkpoint.shards import Shard, ShardFile, plan_shards
from psomerge.errors import PsomergeError
from psomerge.files.durable import sync
from psomerge.files.names import INDEX, PROCESSOR_FILES, TOKENIZER_FILES, is_template
from psomerge.files.staging import staged, write_durably


def write_checkpoint(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    like: Checkpoint,
    tokenizer_from: Checkpoint,
    dtype: str,
    shard_bytes: int = 5 * 2**30,
    *,
    beside: Callable[[], Mapping[str, bytes]] = dict,
) -> dict[str, str]:
    """Returns the SHA-256 in hex of each file of a checkpoint written to `folder`, by name. Memory: the tensor that is
    being written.

    Args:
        folder: must not exist, or be empty; appears when all of it is on the disk.
        tensors: names and values of exactly the tensors of `like`, best in its order; values are rounded to the dtype
            if they have another float dtype.
        like: gives names, shapes, config, and with dtype `base` each tensor's dtype.
        tokenizer_from: gives tokenizer, chat templates, generation config and stop tokens, and the processor's files
            where it has any, else `like` does.
        dtype: of the float tensors, one of `psomerge.recipe.DTYPES`.
        shard_bytes: of tensors in one file at most.
        beside: further small files by name; asked once all tensors are made, and what it raises keeps the folder from
            appearing.

    Raises:
        ArtefactError: a tensor holds NaN or an infinity, e.g. after an overflow of float16.
        ConfigError: the folder is taken, or dtype or shard size impossible.
        SpaceError: no room or no right to write; nothing is left behind.
        PsomergeError: the tensors are not those of `like`.
    """
    shards = plan_shards(like.tensors, dtype, shard_bytes)
    companions = companion_files(like, tokenizer_from, dtype)
    if len(shards) > 1:
        companions[INDEX] = _index(shards)
    needed = sum(shard.size for shard in shards) + sum(map(len, companions.values()))
    with staged(Path(folder), needed) as staging:
        digests = _write_shards(staging, shards, tensors)
        digests |= _write_companions(staging, {**companions, **beside()})
    return dict(sorted(digests.items()))


def companion_files(like: Checkpoint, tokenizer_from: Checkpoint, dtype: str) -> dict[str, bytes]:
    """Returns the files that stand beside a merged model's weights, by name: config.json, generation config, tokenizer,
    chat templates, and how a processor makes inputs of pictures and sounds.

    Args:
        like: gives the config, and the processor's files where `tokenizer_from` has none.
        tokenizer_from: gives the rest, and the stop tokens in the config.
        dtype: one of `psomerge.recipe.DTYPES`.

    Raises:
        ArtefactError: a file is damaged or larger than it can be.
    """
    config = merged_config(like.config, tokenizer_from.config, main_dtype(like.tensors.values(), dtype))
    copied = {name: tokenizer_from.companion(name) for name in carried(tokenizer_from.files)}
    if not any(name in copied for name in PROCESSOR_FILES):
        copied |= {name: like.companion(name) for name in PROCESSOR_FILES if name in like.files}
    return {"config.json": _json(config)} | copied


def carried(files: Iterable[str]) -> list[str]:
    """Returns those of a checkpoint's files beside config and weights that go with a model that gets its tokenizer.

    `tekken.json` beside `tokenizer.json` stays behind: it holds the same vocabulary a second time, without the tokens
    of others, and libraries that know it would prefer it.
    """
    wanted = ("generation_config.json", *TOKENIZER_FILES, *PROCESSOR_FILES)
    names = [name for name in files if name in wanted or is_template(name)]
    return [name for name in names if not (name == "tekken.json" and "tokenizer.json" in names)]


def write_companions(folder: Path, like: Checkpoint, tokenizer_from: Checkpoint, dtype: str) -> dict[str, str]:
    """Returns the digests of a merged model's files but its weights, written to an existing folder: an engine that
    makes the weights itself starts from it.

    Args and Raises: as `companion_files`; OSError where the folder cannot be written.
    """
    return _write_companions(folder, companion_files(like, tokenizer_from, dtype))


def _write_companions(folder: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_durably(folder / name, content)
    for inner in {(folder / name).parent for name in files} - {folder}:
        inner.chmod(0o755)
        sync(inner)
    return {name: sha256(content).hexdigest() for name, content in files.items()}


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _index(shards: Iterable[Shard]) -> bytes:
    weight_map = {name: shard.file for shard in shards for name in shard.tensors}
    total = sum(shard.size - len(shard.header) for shard in shards)
    return _json({"metadata": {"total_size": total}, "weight_map": weight_map})


def _write_shards(folder: Path, shards: Iterable[Shard], tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, str]:
    """Returns the digest of each shard, closed as soon as its last tensor has come."""
    place = {name: shard for shard in shards for name in shard.tensors}
    missing = {shard.file: set(shard.tensors) for shard in place.values()}
    opened: dict[str, ShardFile] = {}
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=1) as hasher, ExitStack() as stack:
        for name, tensor in tensors:
            shard = place.get(name)
            if shard is None or name not in missing[shard.file]:
                raise PsomergeError(
                    f"{folder}: tensor {name!r} came twice or belongs to no part of the checkpoint; this is a bug in "
                    "the merge"
                )
            if shard.file not in opened:
                opened[shard.file] = stack.enter_context(ShardFile(folder, shard, hasher))
            opened[shard.file].put(name, _as_planned(name, tensor, shard))
            missing[shard.file].remove(name)
            if not missing[shard.file]:
                digests[shard.file] = opened[shard.file].finish()
    if lacking := sorted(name for names in missing.values() for name in names):
        raise PsomergeError(
            f"{folder}: {len(lacking)} tensors never came, the first is {lacking[0]!r}; this is a bug in the merge"
        )
    return digests


def _as_planned(name: str, tensor: torch.Tensor, shard: Shard) -> torch.Tensor:
    info = shard.tensors[name]
    if tuple(tensor.shape) != info.shape or tensor.dtype.is_floating_point != info.dtype.is_floating_point:
        raise PsomergeError(
            f"tensor {name!r} came as {tensor.dtype} {list(tensor.shape)}, planned was {info.dtype} "
            f"{list(info.shape)}; this is a bug in the merge"
        )
    tensor = tensor.detach().to(device="cpu", dtype=info.dtype).contiguous()
    if info.dtype.is_floating_point:
        check_finite_tensor(tensor, f"merged tensor {name!r}")
    return tensor
