"""A model of the hub that is not here yet: resolved once, fetched file by file, proven, and only then recorded as `tasks.snapshots` has it."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from psomerge.durable import writing
from psomerge.errors import ArtefactError, ServiceError, SpaceError
from psomerge.files import INDEX, allowed, listing, read_json
from psomerge.pins import BLOCK, digest_file
from tasks.hub import Remote, download, look_up
from tasks.locking import lock
from tasks.snapshots import Place, Snapshot, here, place_of, record, record_name

Progress = Callable[[str, float], None]
MAX_INDEX = 2**28
"""Bytes of a shard index that is read."""
_PLAIN = re.compile(r"\w[\w.+=, @-]{0,199}", re.ASCII)
_WEIGHTS = ".safetensors"


def fetch(address: str, home: Path, progress: Progress) -> Snapshot:
    """Returns the snapshot of an address, after downloading what is not there or not as it was.

    Args:
        address: `hf://ORG/NAME` or `hf://ORG/NAME@REVISION`.
        home: PSOMERGE_HOME.
        progress: called with what is being done and the share done, in [0, 1].

    Raises:
        ConfigError, StateError: as `here`.
        ArtefactError: no such model or revision, none that can be merged, or files that are not those that the hub has.
        ServiceError, SpaceError: as `tasks.hub`; or no room for the files.
    """
    if found := here(address, home):
        return found
    place = place_of(address, home)
    with lock(place.folder, f"fetches {address}", progress):
        if found := here(address, home):
            return found
        commit = place.commit()
        revision = look_up(place.repository, commit or place.revision)
        if commit not in (None, revision.commit):
            raise ServiceError(f"{address}: asked for commit {commit}, the hub answers with {revision.commit}; check HF_ENDPOINT")
        if commit is None:
            record_name(place, revision.commit)
        return _fill(place, revision.commit, _wanted(place, revision.files), progress)


def _wanted(place: Place, files: Mapping[str, Remote]) -> dict[str, Remote]:
    """The files of a checkpoint among those of a repository; names that lead into or out of folders are left alone."""
    wanted = {name: one for name, one in files.items() if allowed(name) and _PLAIN.fullmatch(name)}
    if "config.json" not in wanted or not any(name.endswith(_WEIGHTS) for name in wanted):
        found = ", ".join(sorted(name for name in files if name.isprintable())[:6]) or "nothing"
        raise ArtefactError(
            f"{place.repository.address}: expected config.json and safetensors, found {found}; name a model in this format, or convert it and give its folder"
        )
    return wanted


def _fill(place: Place, commit: str, files: Mapping[str, Remote], progress: Progress) -> Snapshot:
    folder, what = place.folder / commit, place.repository.address
    for leftover in folder.glob(".cache/huggingface/download/*.incomplete"):
        leftover.unlink()  # of a process that was killed: the client begins such a file anew
    # Before anything is kept that is there: a file that was changed has the size that it should have, and the client looks no further.
    _remove(folder, [name for name, one in files.items() if (folder / name).exists() and _mismatch(folder / name, one)])
    small = [name for name in files if not name.endswith(_WEIGHTS)]
    progress(f"{what}: config and tokenizer", 0.0)
    download(place.repository, commit, small, folder, lambda _: None)
    digests = _proven(what, folder, {name: files[name] for name in small})
    weights = {name: files[name] for name in _weights(folder, files)}
    total = sum(one.size for name, one in weights.items() if not (folder / name).exists())
    if total > (free := shutil.disk_usage(folder).free):
        raise SpaceError(f"{what}: needs {total / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free; make room, or set PSOMERGE_HOME to a larger disk")
    download(place.repository, commit, list(weights), folder, lambda done: progress(what, min(1.0, done / max(total, 1))))
    progress(f"{what}: checking", 1.0)
    digests |= _proven(what, folder, weights)
    with writing(folder):
        _remove(folder, [name for name in listing(folder) if allowed(name) and name not in digests])
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    for name in digests:
        _sync(folder / name)
    return record(place, commit, digests)


def _weights(folder: Path, files: Mapping[str, Remote]) -> list[str]:
    """The weights that loaders take: what the index names, else model.safetensors, else all; repositories often hold them a second time."""
    every = [name for name in files if name.endswith(_WEIGHTS)]
    if INDEX in files:
        named: Any = read_json(folder / INDEX, MAX_INDEX).get("weight_map")
        shards = {shard for shard in named.values() if isinstance(shard, str)} if isinstance(named, dict) else set[str]()
        return [name for name in every if name in shards]
    return ["model.safetensors"] if "model.safetensors" in every else every


def _mismatch(path: Path, remote: Remote) -> str | None:
    """Returns how a file differs from the hub's, by the hub's own digest."""
    if (size := path.stat().st_size) != remote.size:
        return f"expected {remote.size} bytes, found {size}"
    if remote.sha256:
        expected, found = f"SHA-256 {remote.sha256}", f"SHA-256 {digest_file(path)}"
    elif remote.blob:
        expected, found = f"git blob {remote.blob}", f"git blob {_blob(path, size)}"
    else:
        return None
    return None if found == expected else f"expected {expected}, found {found}"


def _proven(address: str, folder: Path, files: Mapping[str, Remote]) -> dict[str, str]:
    """The SHA-256 of each file, several at a time. What is not as the hub says is removed, so that the next run fetches it, and named."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = dict(zip(files, pool.map(lambda name: _mismatch(folder / name, files[name]), files), strict=True))
        if wrong := {name: problem for name, problem in found.items() if problem}:
            _remove(folder, list(wrong))
            name, problem = next(iter(wrong.items()))
            raise ArtefactError(f"{address}: {name}: {problem} ({len(wrong)} wrong in all, removed); run the same command again to fetch it anew")
        digests = pool.map(lambda name: files[name].sha256 or digest_file(folder / name), files)
        return dict(zip(files, digests, strict=True))


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / ".cache" / "huggingface" / "download" / f"{name}.metadata").unlink(missing_ok=True)


def _blob(path: Path, size: int) -> str:
    """Git's name of a file's content."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
