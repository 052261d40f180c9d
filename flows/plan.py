"""What a run would do and cost, from the config and the headers of what is there already; nothing is fetched, trained or started."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.suite import load_suite
from flows.opening import judgements
from flows.schema import Config, configs_folder
from psomerge.checkpoint import check_fit, open_checkpoint
from tasks.fetch import fetch, is_here, locate
from tasks.wording import size


def describe(config: Config, home: Path) -> dict[str, Any]:
    """Returns the plan as plain data.

    Raises:
        ConfigError: the suite, an address or the home folder cannot be.
        ArtefactError: a local checkpoint is broken or does not fit.
    """
    suite = load_suite(config.suite, configs_folder() / "suites")
    addresses = {"base": config.base, **config.experts}
    missing = [name for name, address in addresses.items() if not _there(address, home)]
    here = {name: open_checkpoint(locate(address, home), name) for name, address in addresses.items() if name not in missing}
    if "base" in here:
        check_fit(here["base"], [checkpoint for name, checkpoint in here.items() if name != "base"])
    largest = max((_bytes(checkpoint.tensors) for checkpoint in here.values()), default=0)
    n = len(config.experts)
    return {
        "config": config.name,
        "home": str(home),
        "suite": {"name": suite.name, "benchmarks": [benchmark.name for benchmark in suite.benchmarks]},
        "experts": n,
        "to_fetch": missing,
        "swarms": list(dict.fromkeys((config.swarm.initial, *config.compare.swarms))),
        "particles": 2 * n + 1,
        "steps": config.swarm.steps,
        "judgements": judgements(config, n),
        "model_bytes": largest,
        "memory_bytes": (n + 2) * largest,
        "disk_bytes": 3 * largest,
        "disk_free_bytes": shutil.disk_usage(_existing(home)).free,
        "threads": config.engine.threads,
        "cores": len(os.sched_getaffinity(0)),
        "register_as": config.register_as.model,
    }


def _there(address: str, home: Path) -> bool:
    if is_here(address, home):
        return True
    if not address.startswith("embedded://"):
        fetch(address, home, lambda what, share: None)  # says what is wrong with the folder
    return False


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
        f"memory: at most {size(plan['memory_bytes'])} for {plan['experts'] + 2} models, and the engine's own"
        if known
        else "memory: known once the base is here",
        f"disk: {size(plan['disk_bytes'])} of {size(plan['disk_free_bytes'])} free" if known else f"disk: {size(plan['disk_free_bytes'])} free",
        f"registers models:/{plan['register_as']}",
    ]
