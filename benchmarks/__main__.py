"""`python -m benchmarks [NAME ...] [--json]`: runs the named benchmarks, or all that need no finished run and no
hours."""

import json
import shlex
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import (
    adapter_pass,
    download,
    early_stopping,
    measure,
    memory,
    merge_command,
    merge_pass,
    scoring,
    search_study,
    turnaround,
)
from psomerge.tasks.search.run_identity import versions

ALL = {
    "merge_pass": merge_pass,
    "adapter_pass": adapter_pass,
    "merge_command": merge_command,
    "memory": memory,
    "download": download,
    "turnaround": turnaround,
    "scoring": scoring,
    "early_stopping": early_stopping,
    "search_study": search_study,
}
DEFAULT = ("merge_pass", "merge_command", "memory")


def main(words: list[str] | None = None) -> int:
    """Returns the exit code. Figures go to stdout, progress to stderr."""
    words = sys.argv[1:] if words is None else words
    names = [word for word in words if word in ALL] if words and words[0] in ALL else []
    names = words[: len(names)] if words[: len(names)] == names else names
    chosen = names or list(DEFAULT)
    options = parser(chosen).parse_args(words[len(names) :])
    report: dict[str, Any] = {
        "command": f"python -m benchmarks {shlex.join(words)}".strip(),
        "machine": measure.machine(),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory(prefix="psomerge-benchmarks-") as made:
        scratch = options.scratch or Path(made)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            report[name] = ALL[name].run(options, scratch)
    print(json.dumps(report, indent=2) if options.json else "\n".join(lines(report)))
    return 0


def parser(names: list[str]) -> ArgumentParser:
    """Returns the parser of the options that the named benchmarks have."""
    texts = "\n".join(f"  {name:14} {(module.__doc__ or '').splitlines()[0]}" for name, module in ALL.items())
    made = ArgumentParser(
        prog="python -m benchmarks [NAME ...]",
        description=f"{__doc__}\n\n{texts}\n\nA name before --help shows its options too.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    made.add_argument("--json", action="store_true", help="one JSON object")
    made.add_argument("--small", action="store_true", help="tiny models: does it work, not how fast is it")
    made.add_argument("--scratch", type=Path, help="folder for models, kept; a temporary one unless given")
    for name in names:
        ALL[name].arguments(made.add_argument_group(name))  # pyright: ignore[reportArgumentType]
    return made


def lines(report: Mapping[str, Any]) -> list[str]:
    """Returns the report as text: a line for every case."""
    told: list[str] = []
    for part, content in report.items():
        if not isinstance(content, Mapping):
            told.append(f"{part}: {content}")
            continue
        told.append(part)
        for case, figures in content.items():
            text = (
                "  ".join(f"{key} {_number(value)}" for key, value in figures.items())
                if isinstance(figures, Mapping)
                else _number(figures)
            )
            told.append(f"  {case:46} {text}")
    return told


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
