"""`psomerge merge METHOD` of base + 4 experts as a user starts it: wall time with start-up and writing."""

import os
import shutil
import subprocess
import sys
import sysconfig
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.models import LARGE, SMALL, make_models
from psomerge.merge.methods.table import METHODS


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeats", type=int, default=3)


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns seconds by method."""
    folders = make_models(scratch / "models", SMALL if options.small else LARGE, 4)
    found: dict[str, Any] = {}
    for method in options.methods:
        times = [merge(method, folders, scratch) for _ in range(options.repeats)]
        found[method] = {
            "seconds": median(wall for wall, _ in times),
            "fastest": min(wall for wall, _ in times),
            "cpu_seconds": min(cpu for _, cpu in times),
        }
    return found


def merge(method: str, folders: dict[str, Path], scratch: Path) -> tuple[float, float]:
    """Returns wall and CPU seconds of one command.

    Raises:
        RuntimeError: the command failed.
    """
    out = scratch / "merged"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        f"{sysconfig.get_path('scripts')}/psomerge",
        "merge",
        method,
        "--base",
        str(folders["base"]),
        "--out",
        str(out),
    ]
    command += [word for name, folder in folders.items() if name != "base" for word in ("--expert", str(folder))]
    before, begin = os.times(), perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PSOMERGE_HOME": str(scratch / "home")}, check=False
    )
    wall, after = perf_counter() - begin, os.times()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    print(f"  merge {method}: {wall:.2f} s", file=sys.stderr)
    return wall, after.children_user + after.children_system - before.children_user - before.children_system
