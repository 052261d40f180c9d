"""A small run as a process of its own: watched until a moment of its work, and what it must come to however often it
was disturbed."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store
from runs.small_run import Small

PATIENCE = 240.0
"""Seconds that a run may need to reach a moment, on a busy machine."""
STEPS = {"initial": "star", "steps": 4}


@dataclass(frozen=True)
class Outcome:
    """What must not depend on how often a run was killed."""

    coefficients: Any
    checkpoint: dict[str, str]
    judgements: dict[str, Any]
    """Fitness and values by key."""
    scores: Any
    decision: Any


@dataclass(frozen=True)
class Moment:
    """When to strike: as soon as `reached` says so of the run's folder (None while there is none) and of what the run
    said on stderr so far."""

    name: str
    reached: Callable[[Path | None, str], bool]


def lines(folder: Path | None) -> int:
    journal = folder and folder / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal and journal.exists() else 0


def there(folder: Path | None, *parts: str) -> bool:
    return folder is not None and any(folder.glob("/".join(parts)))


def engine_runs(folder: Path | None) -> bool:
    """Whether an engine's process is there: its folder has a record already before."""
    records = [path.read_text() for path in folder.glob("engine/engine-*/record.json")] if folder else []
    return any(json.loads(record)["engine"] for record in records)


MOMENTS = (
    Moment("while requests are built", lambda folder, said: "building requests" in said),
    Moment("while the engine starts", lambda folder, said: engine_runs(folder)),
    Moment("after the first judgement", lambda folder, said: lines(folder) >= 1),
    Moment("in the middle of the search", lambda folder, said: lines(folder) >= 9),
    Moment("while the checkpoint is written", lambda folder, said: there(folder, "checkpoint")),
    Moment("while it is registered", lambda folder, said: there(folder, "published")),
    Moment("while it is verified", lambda folder, said: there(folder, "verify", "question.json")),
)


class Running:
    """A run as a process, with what it says read as it says it."""

    def __init__(self, small: Small, *arguments: str, **environment: str) -> None:
        self.small = small
        self.process = small.start("run", str(small.config), "--json", *arguments, **environment)
        self._said: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(
            target=lambda stream: self._said.extend(stream), args=(self.process.stderr,), daemon=True
        )
        self._reader.start()

    @property
    def said(self) -> str:
        return "".join(self._said)

    @property
    def folder(self) -> Path | None:
        return next(iter(self.small.runs), None)

    def wait_for(self, moment: Moment) -> None:
        end = time.monotonic() + PATIENCE
        while not moment.reached(self.folder, self.said):
            assert self.process.poll() is None, f"ended before: {moment.name}\n{self.said[-3000:]}"
            assert time.monotonic() < end, f"never reached: {moment.name}\n{self.said[-3000:]}"
            time.sleep(0.002)

    def ended(self, seconds: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process.stdout as out, self.process.stderr:
            printed = out.read()
            code = self.process.wait(seconds)
            self._reader.join(10)
        return code, printed, self.said


def outcome(small: Small, result: dict[str, Any]) -> Outcome:
    checkpoint = Path(result["checkpoint"])
    entries = [
        json.loads(line) for line in (small.home / "runs" / result["run"] / "journal.jsonl").read_text().splitlines()
    ]
    judgements = [entry for entry in entries if entry["kind"] == "judgement"]
    keys = [entry["key"] for entry in judgements]
    assert len(keys) == len(set(keys)), "a judgement was made twice"
    return Outcome(
        json.loads(Path(result["recipe"]).read_text())["coefficients"],
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(checkpoint.iterdir())},
        {entry["key"]: (entry["fitness"], entry["values"]) for entry in judgements},
        result["scores"],
        (result["version"], result["alias"], result["promoted"], result["reason"]),
    )


def versions(small: Small) -> list[str]:
    with connect(Store(f"sqlite:///{small.home / 'mlflow.db'}", small.home / "artifacts")) as client:
        return [str(one.version) for one in client.search_model_versions("name = 'small-model'")]


def survivors(victims: list[psutil.Process], seconds: float = 10.0) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    while (
        alive := [one for one in victims if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    ) and time.monotonic() < end:
        time.sleep(0.05)
    return alive


def of_this_run(small: Small) -> list[psutil.Process]:
    """Living processes that were started for this home, by their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PSOMERGE_HOME") == str(small.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def again(folder: Path) -> Small:
    """The same checkpoints, suite and config as the undisturbed run's, with an empty home: the same run key."""
    small = Small(folder)
    if small.home.exists():
        small.home.rename(folder / f"home-{len(list(folder.glob('home*')))}")
    return small
