"""What a run will take: files to fetch, room on the disk, memory, time. From shapes, sizes and earlier runs; nothing is
measured."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from psomerge.checkpoint.adapter import Adapter
from psomerge.checkpoint.config import output_dtype
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import PsomergeError, SpaceError
from psomerge.evals.engines.choice import choose
from psomerge.files.digest import digest_of
from psomerge.flows.config.schema import Config, EngineConfig
from psomerge.run.folder import entries
from psomerge.tasks.report.summary import read
from psomerge.tasks.report.wording import size
from psomerge.tasks.services.stores import tracking_uri
from psomerge.tasks.sources.origin import Preview
from psomerge.tasks.tracking.addresses import absolute
from psomerge.tasks.tracking.store import TRACKING

COPIES = 3
"""Of the merged model on the disk at a time: the run's checkpoint, MLflow's, and the one that is downloaded to be
verified. The published folder is links."""


@dataclass(frozen=True)
class Disk:
    """Bytes under the home."""

    download_bytes: int
    """Of base and experts, as far as they are not here yet."""
    written_bytes: int
    """Of the merged model in all copies that are there at a time, as far as they are not there yet."""
    free_bytes: int

    @property
    def needed_bytes(self) -> int:
        """All that must find room."""
        return self.download_bytes + self.written_bytes

    def check(self, home: Path) -> None:
        """Raises SpaceError if there is no room."""
        if self.needed_bytes > self.free_bytes:
            parts = f"{size(self.download_bytes)} to fetch, " if self.download_bytes else ""
            text = (
                f"{home}: needs {size(self.needed_bytes)} ({parts}{size(self.written_bytes)} for the merged model "
                "and its copies)"
            )
            raise SpaceError(
                f"{text}, {size(self.free_bytes)} are free; make room, or set PSOMERGE_HOME to a larger disk"
            )


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a run, its engine in a process of its own; without what the programs themselves take."""

    model_bytes: int
    """The model that is judged, in the engine's dtype."""
    kv_cache_bytes: int
    workspace_bytes: int
    """Tensors being made: of the largest one, float32, as many as are made ahead."""
    mapped_bytes: int
    """Base and experts: pages of mapped files, which the system drops where it must and reads again at the next
    swap."""
    dtype: str
    """That the engine computes in."""
    device: str
    """Where model and KV cache lie: `cpu`, or a GPU's name."""
    device_bytes: int
    """Of that memory in all."""

    @property
    def held_bytes(self) -> int:
        """What cannot be dropped."""
        return self.model_bytes + self.kv_cache_bytes + self.workspace_bytes

    def warnings(self) -> list[str]:
        """Returns a line if the run will surely not find the memory."""
        held = self.held_bytes if self.device == "cpu" else self.model_bytes + self.kv_cache_bytes
        if held <= self.device_bytes:
            return []
        smaller = "" if self.dtype != "float32" else ", or set engine.dtype to bfloat16"
        return [
            f"memory will not do: the engine needs {size(held)}, {self.device} has {size(self.device_bytes)}; take a "
            f"larger machine{smaller}"
        ]


def disk(config: Config, previews: Mapping[str, Preview], home: Path) -> Disk:
    """Returns the room that a run needs, less what an earlier run of the config has written.

    Args:
        config: of the run.
        previews: of the models, by name.
        home: PSOMERGE_HOME, which need not exist.
    """
    base = previews["base"].checkpoint if "base" in previews else None
    merged = (
        sum(_elements(info.shape) * output_dtype(info.dtype, config.dtype).itemsize for info in base.tensors.values())
        if base
        else 0
    )
    fetched = {(one.source, file): count for one in previews.values() for file, count in one.to_fetch.items()}
    free = shutil.disk_usage(next(parent for parent in (home, *home.parents) if parent.exists())).free
    return Disk(sum(fetched.values()), _copies(home, digest_of(config.canonical())) * merged, free)


def _copies(home: Path, config: str) -> int:
    """How many copies of the merged model a run of the config with this digest has still to write."""
    tracking = absolute(os.environ.get(TRACKING, ""))
    copies = COPIES if not tracking or tracking == tracking_uri(home) else COPIES - 1
    for path in (home / "runs").glob("*/run.json"):
        with suppress(OSError, ValueError, KeyError, AttributeError):
            if json.loads(path.read_text(encoding="utf-8"))["identity"].get("config") == config:
                if (path.parent / "result.json").exists():
                    return 0
                copies -= (path.parent / "checkpoint").exists()
    return copies


def memory(engine: EngineConfig, checkpoints: Mapping[str, Checkpoint]) -> Memory | None:
    """Returns what a run holds in memory at most; None without a base.

    Args:
        engine: of the run.
        checkpoints: with or without their values, by name.
    """
    if "base" not in checkpoints:
        return None
    tensors = checkpoints["base"].tensors
    on_gpu = choose(engine.kind, checkpoints["base"].config).kind == "vllm" and torch.cuda.is_available()
    dtype = ("base" if on_gpu else "float32") if engine.dtype == "auto" else engine.dtype
    total = torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total
    return Memory(
        model_bytes=sum(_elements(info.shape) * output_dtype(info.dtype, dtype).itemsize for info in tensors.values()),
        kv_cache_bytes=int(engine.kv_cache_gib * 2**30),
        workspace_bytes=2 * max(_elements(info.shape) for info in tensors.values()) * torch.float32.itemsize,
        mapped_bytes=sum(map(stored_bytes, checkpoints.values())),
        dtype=dtype,
        device=torch.cuda.get_device_name(0) if on_gpu else "cpu",
        device_bytes=total,
    )


def stored_bytes(checkpoint: Checkpoint) -> int:
    """Returns the bytes of the tensors in a checkpoint's own files: of an adapter the factors, not the base."""
    own = checkpoint.stored if isinstance(checkpoint, Adapter) else checkpoint
    return sum(info.end - info.begin for info in own.tensors.values())


def seconds(home: Path, suite: str, judgements: int, base: Checkpoint | None) -> float | None:
    """Returns the wall seconds of so many judgements with all around them, if they go as in the suite's newest finished
    run of this home; None without one.

    A model of another size takes as much longer as it has more parameters.
    """
    finished = sorted((home / "runs").glob("*/report/summary.json"), key=lambda path: -path.stat().st_mtime)
    for path in finished:
        with suppress(PsomergeError, OSError):
            summary, run = read(path), path.parents[1]
            made = sum(entry["kind"] == "judgement" for entry in entries(run))
            if summary.suite == suite and made:
                scale = parameters(base) / parameters(open_checkpoint(run / "checkpoint")) if base else 1.0
                return (summary.wall_seconds - summary.seconds.get("fetch", 0.0)) / made * judgements * scale
    return None


def parameters(checkpoint: Checkpoint) -> int:
    """Returns the number of elements of all tensors."""
    return sum(_elements(info.shape) for info in checkpoint.tensors.values())


def _elements(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()
