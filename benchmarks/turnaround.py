"""What a judgement of a finished run costs beyond scoring: merge, load, reset, canary; and bookkeeping (Prefect,
MLflow, journal)."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from psomerge.flows.environment.home import home_folder
from psomerge.run.folder import entries

SWAP = ("merge", "load", "reset", "canary")
SEARCHES = ("star", "paper")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, help="a finished run's folder; the newest in PSOMERGE_HOME unless given")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns the shares and milliseconds over the search's judgements of one run."""
    return figures(options.run or newest(home_folder()))


def newest(home: Path) -> Path:
    """Returns the finished run that ended last.

    Raises:
        FileNotFoundError: there is none.
    """
    finished = sorted((home / "runs").glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise FileNotFoundError(f"{home / 'runs'}: no finished run; run `psomerge quickstart` first, or give --run")
    return finished[-1].parent


def figures(folder: Path) -> dict[str, Any]:
    """Returns what the journal and the summary of a finished run tell; see `run`."""
    judged = [entry for entry in entries(folder) if entry["kind"] == "judgement" and entry["failure"] is None]
    seconds = json.loads((folder / "report" / "summary.json").read_text())["seconds"]
    searched = [entry["seconds"] for entry in judged if entry["phase"] in SEARCHES]
    score = sum(one["score"] for one in searched)
    each = {f"{phase}_ms": 1000 * sum(one[phase] for one in searched) / len(searched) for phase in (*SWAP, "score")}
    return {
        "run": str(folder),
        "judgements_of_the_search": len(searched),
        "judgements_of_the_run": len(judged),
        **each,
        "beyond_scoring_share": sum(one[phase] for one in searched for phase in SWAP) / score,
        "bookkeeping_ms_a_judgement": 1000 * seconds["bookkeeping"] / len(judged),
    }
