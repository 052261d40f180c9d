"""Peak anonymous memory of making models from recipes, in a process of its own: it must not grow with their number."""

import json
import random
import subprocess
import sys
import threading
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from benchmarks.models import LARGE, SMALL, make_models

_INTERVAL = 0.002
"""Seconds between two looks: a tensor of the 134.5 M model takes longer where it matters."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--experts", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--recipes", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--child", help="used by the benchmark itself: folders and number of recipes as JSON")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns peak bytes above the start, as models of the checkpoint's dtype, by number of experts and of recipes."""
    if options.child:
        return grown(**json.loads(options.child))
    found: dict[str, Any] = {}
    for n in options.experts:
        folders = {
            name: str(folder)
            for name, folder in make_models(scratch / "models", SMALL if options.small else LARGE, n).items()
        }
        for count in options.recipes:
            task = json.dumps({"folders": folders, "count": count})
            command = [sys.executable, "-m", "benchmarks", "memory", "--json", "--child", task]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[f"{n} experts, {count} recipes"] = json.loads(done.stdout)["memory"] | {"limit_models": n + 2}
    return found


def grown(folders: dict[str, str], count: int) -> dict[str, float]:
    """Returns how far this process's anonymous and mapped-file memory grow while it makes `count` models, every tensor
    let go of at once."""
    from psomerge.merge.basis import open_basis
    from psomerge.recipe import Recipe, Source

    basis = open_basis({name: Path(folder) for name, folder in folders.items()}, compiled=False)
    base, *experts = (Source(name, folder, "0" * 40) for name, folder in folders.items())
    recipe, draw = Recipe(base, tuple(experts)), random.Random(0)
    before, peak = resident(), resident()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL):
            for kind, size in resident().items():
                peak[kind] = max(peak[kind], size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(count):
            for _ in basis.merged_tensors(recipe.with_coefficients([[draw.random() for _ in range(2 * len(experts))]])):
                pass
    finally:
        ended.set()
        watcher.join()
    model = sum(info.end - info.begin for info in basis.base.tensors.values())
    anonymous, files = peak["RssAnon"] - before["RssAnon"], peak["RssFile"] - before["RssFile"]
    return {
        "anonymous_bytes": anonymous,
        "mapped_bytes": files,
        "anonymous_models": anonymous / model,
        "all_models": (anonymous + files) / model,
    }


def resident() -> dict[str, int]:
    """Returns the resident memory of this process in bytes: `RssAnon`, and `RssFile`, pages of mapped files that the
    system can drop."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        kind: int(value.split()[0]) * 1024
        for kind, _, value in (line.partition(":") for line in lines)
        if kind in ("RssAnon", "RssFile")
    }
