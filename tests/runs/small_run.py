"""The whole pipeline in a folder of a test: a tiny base, experts near it, a short suite, a config, and a home of its
own."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from safetensors.torch import load_file, save_file

from made.models import tiny_llama
from places import ROOT

SUITE: dict[str, Any] = {
    "name": "small",
    "salt": "small-1",
    "shares": {"optimisation": 0.4, "validation": 0.2, "test": 0.4},
    "group": "concept",
    "include": ["cldr"],
    "limits": {"optimisation": 6, "validation": 6, "test": 12},
    "benchmarks": [
        {"task": "cldr_pick", "name": "pick-{language}", "languages": ["so", "eu"], "metric": "acc"},
        {"task": "cldr_kind", "name": "kind-en", "languages": ["en"], "metric": "acc"},
    ],
}


@dataclass(frozen=True)
class Small:
    """Where everything of one small pipeline lies; `folder` holds `base`, the experts, `suite.yaml` and
    `small.yaml`."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "small.yaml"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def runs(self) -> list[Path]:
        """Folders of all runs."""
        return sorted((self.home / "runs").glob("*"))

    @property
    def environment(self) -> dict[str, str]:
        """A bare one, as of a user who has set nothing but the home; this checkout's code comes first."""
        bare = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",
            "LANG": "C.UTF-8",
        }
        return bare | {"PSOMERGE_HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The command line as a process that leads a group of its own."""
        command = [sys.executable, "-m", "psomerge", *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment | environment, text=True, start_new_session=True, **streams
        )

    def psomerge(self, *arguments: str, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """The finished command line; what is left of its processes after `timeout` seconds is killed."""
        process = self.start(*arguments, **environment)
        try:
            out, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill_all(process.pid)
            out, said = process.communicate()
            raise AssertionError(
                f"psomerge {' '.join(arguments)} did not end within {timeout:g} s; it said:\n{said[-3000:]}"
            ) from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, said)

    def run(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """The JSON object of `psomerge run`, which must succeed."""
        done = self.psomerge("run", str(self.config), "--json", *arguments, **environment)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    def change(self, **values: Any) -> None:
        """Lays values over the config's top level."""
        self.config.write_text(yaml.safe_dump(yaml.safe_load(self.config.read_text()) | values, sort_keys=False))


def small_run(
    folder: Path,
    *,
    engine: str = "transformers",
    experts: int = 2,
    make: Callable[..., Path] = tiny_llama,
    **changes: Any,
) -> Small:
    """A config over new checkpoints in `folder`: seconds of judging; `make` makes the base, `changes` are laid over the
    config's top level."""
    base = make(folder / "base", 0)
    names = [f"expert{number}" for number in range(1, experts + 1)]
    for number, name in enumerate(names, 1):
        perturbed(base, folder / name, number)
    config = {
        "name": "small",
        "base": str(base),
        "experts": {name: str(folder / name) for name in names},
        "suite": "suite.yaml",
        "swarm": {"initial": "star", "steps": 2},
        "rerank": 2,
        "compare": {"baselines": ["average"]},
        # 64 MiB of KV cache instead of a gigabyte that the tests would hold beside each other.
        "engine": {"kind": engine, "kv_cache_gib": 0.0625, "max_num_seqs": 64, "max_num_batched_tokens": 2048},
        "register": {"model": "small-model", "experiment": "small tests"},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    small = Small(folder)
    small.config.write_text(yaml.safe_dump(config | changes, sort_keys=False))
    return small


def perturbed(base: Path, folder: Path, seed: int, *, size: float = 0.03) -> Path:
    """A copy of a checkpoint with noise added to every tensor: near enough to its base for a merge to mean
    something."""
    shutil.copytree(base, folder)
    tensors = load_file(base / "model.safetensors")
    draw = torch.Generator().manual_seed(seed)
    changed = {
        name: (tensor.float() + size * torch.randn(tensor.shape, generator=draw)).to(tensor.dtype)
        for name, tensor in tensors.items()
    }
    save_file(changed, str(folder / "model.safetensors"), metadata={"format": "pt"})
    return folder


def abandoned_memory() -> set[str]:
    """Shared memory that no process has mapped any more; other tests' engines and databases have theirs."""
    names, mapped = os.listdir("/dev/shm"), ""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            mapped += Path(f"/proc/{process.pid}/maps").read_text()
    return {name for name in names if f"/dev/shm/{name}" not in mapped and Path("/dev/shm", name).exists()}


def family(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it, whatever group or session they are in; empty if it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_all(pid: int) -> list[psutil.Process]:
    """Kills a process and all its descendants at one blow: all are stopped first, so that none can notice. Returns
    them."""
    victims = family(pid)
    for process in victims:
        try:
            process.suspend()
        except psutil.NoSuchProcess:
            continue
    victims += [late for late in family(pid) if late not in victims]
    for process in victims:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return victims
