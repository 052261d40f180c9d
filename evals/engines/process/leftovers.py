"""What an engine process may leave behind, and its removal by our own records only.

Each engine gets one folder in the run's work folder: its TMPDIR, and `record.json` with who made it and who it is.
Process numbers are used again, so a process is named by number, boot and start time.
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from time import monotonic, sleep

from psomerge.evals.engines.host import start_time

_PREFIX = "engine-"
_RECORD = "record.json"


def new_folder(work: Path) -> Path:
    """Returns a new folder for one engine, recorded as this process's."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=work))
    _write(folder, {"supervisor": _identity(os.getpid()), "engine": None})
    return folder


def record_engine(folder: Path, pid: int) -> None:
    """Adds the engine's process, leader of its own group, to the folder's record."""
    _write(folder, _read(folder) | {"engine": _identity(pid)})


def end_group(pid: int) -> None:
    """Ends every process of the group that `pid` leads, stopped ones too, and waits until the leader is gone or a
    zombie."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = monotonic() + 10
    while start_time(pid) is not None and monotonic() < deadline:
        sleep(0.01)


def remove(folder: Path) -> None:
    """Removes an ended engine's folder. (An engine that lives in one process makes no shared memory.)"""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(work: Path) -> list[Path]:
    """Ends engines whose supervisor is gone, removes what they left in `work`, returns the folders removed; touches
    nobody else's."""
    removed = []
    for folder in sorted(work.glob(_PREFIX + "*")):
        record = _read(folder)
        if _alive(record.get("supervisor")):
            continue
        engine = record.get("engine") or {"pid": 0, "start": None}
        if _alive(engine):
            end_group(engine["pid"])
        remove(folder)
        removed.append(folder)
    return removed


def _identity(pid: int) -> dict[str, object]:
    return {"pid": pid, "start": start_time(pid)}


def _alive(identity: dict | None) -> bool:
    return identity is not None and identity["start"] is not None and start_time(identity["pid"]) == identity["start"]


def _read(folder: Path) -> dict:
    try:
        return json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # killed between making the folder and recording it: nobody was started yet


def _write(folder: Path, record: dict) -> None:
    temporary = folder / f"{_RECORD}.new"
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(folder / _RECORD)
