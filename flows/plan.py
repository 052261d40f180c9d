"""What a run would do and cost, from the config and the headers of what is there already; nothing is fetched, trained or started."""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from evals.suite_file import load_suite
from flows.opening import judgements
from flows.schema import Config, configs_folder
from psomerge.checkpoint import check_fit, open_checkpoint
from psomerge.errors import PsomergeError
from psomerge.run import entries
from tasks.fetch import here as at_home
from tasks.summary import read
from tasks.wording import duration, size


def describe(config: Config, home: Path) -> dict[str, Any]:
    """Returns the plan as plain data.

    Raises:
        ConfigError: the suite, an address or the home folder cannot be.
        ArtefactError: a local checkpoint is broken or does not fit.
    """
    suite = load_suite(config.suite, configs_folder() / "suites")
    addresses = {"base": config.base, **config.experts}
    found = {name: at_home(address, home) for name, address in addresses.items()}
    missing = [name for name, one in found.items() if one is None]
    here = {name: open_checkpoint(one.folder, name) for name, one in found.items() if one}
    if "base" in here:
        check_fit(here["base"], [checkpoint for name, checkpoint in here.items() if name != "base"])
    largest = max((_bytes(checkpoint.tensors) for checkpoint in here.values()), default=0)
    n = len(config.experts)
    asked = judgements(config, n)
    return {
        "config": config.name,
        "home": str(home),
        "suite": {"name": suite.name, "benchmarks": [benchmark.name for benchmark in suite.benchmarks]},
        "experts": n,
        "to_fetch": missing,
        "swarms": list(dict.fromkeys((config.swarm.initial, *config.compare.swarms))),
        "particles": 2 * n + 1,
        "steps": config.swarm.steps,
        "judgements": asked,
        "seconds": _seconds(home, suite.name, asked),
        "model_bytes": largest,
        "memory_bytes": (n + 2) * largest,
        "disk_bytes": 3 * largest,
        "disk_free_bytes": shutil.disk_usage(_existing(home)).free,
        "threads": config.engine.threads,
        "cores": len(os.sched_getaffinity(0)),
        "register_as": config.register_as.model,
    }


def _seconds(home: Path, suite: str, asked: int) -> float | None:
    """Wall seconds that so many judgements take with all around them, if they go as in the suite's newest finished run of this home; None without one."""
    finished = sorted((home / "runs").glob("*/report/summary.json"), key=lambda path: -path.stat().st_mtime)
    for path in finished:
        with suppress(PsomergeError, OSError):
            summary = read(path)
            made = sum(entry["kind"] == "judgement" for entry in entries(path.parents[1]))
            if summary.suite == suite and made:
                return (summary.wall_seconds - summary.seconds.get("fetch", 0.0)) / made * asked
    return None


def _bytes(tensors: Mapping[str, Any]) -> int:
    return sum(info.end - info.begin for info in tensors.values())


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def lines(plan: Mapping[str, Any]) -> list[str]:
    """Returns the plan for people."""
    known = bool(plan["model_bytes"])
    fetching = f"train or fetch: {', '.join(plan['to_fetch'])}" if plan["to_fetch"] else "nothing to fetch: base and experts are here"
    return [
        f"config {plan['config']}, home {plan['home']}",
        f"suite {plan['suite']['name']}: {', '.join(plan['suite']['benchmarks'])}",
        fetching,
        f"search: {plan['particles']} particles from {plan['experts']} experts, {plan['steps']} steps, initial swarm {', then '.join(plan['swarms'])}",
        f"judgements: at most {plan['judgements']}, on {plan['threads']} of {plan['cores']} cores",
        f"time: about {duration(plan['seconds'])}, as in the last run of this suite; what is to be trained or fetched comes on top"
        if plan["seconds"] is not None
        else "time: known after a first run of this suite",
        f"memory: at most {size(plan['memory_bytes'])} for {plan['experts'] + 2} models, and the engine's own"
        if known
        else "memory: known once the base is here",
        f"disk: {size(plan['disk_bytes'])} of {size(plan['disk_free_bytes'])} free" if known else f"disk: {size(plan['disk_free_bytes'])} free",
        f"registers models:/{plan['register_as']}",
    ]
