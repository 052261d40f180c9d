"""A run's folder: named by what the run is, held by one process at a time, with a journal that a killed run goes on
from.

    ROOT/<run key>/run.json        what the run is
                   LOCK            held by the kernel for the process that works here; the text inside only names it
                   journal.jsonl   what happened (`psomerge.run.journal`)
                   result.json     what came out, written last
                   items/          what each judgement comes from, item by item
                   report/         pages for people

It knows no clock, no config format and no search.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from psomerge.errors import LockedError, StateError
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, sync, to_bytes, write_atomic, writing
from psomerge.run.journal import Journal, parse

logger = logging.getLogger(__name__)


def run_key(identity: Mapping[str, Any]) -> str:
    """Returns 16 hex digits that name a run: equal exactly for equal JSON data, in any order of keys."""
    return digest_of(_plain(identity))[:16]


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Returns a line for each value in which two identities differ, e.g. `engine.threads: 1 -> 2`, in the order of the
    names."""
    before, after = _flat(_plain(one)), _flat(_plain(other))
    return [
        f"{name}: {_short(before, name)} -> {_short(after, name)}"
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or json.dumps(before[name]) != json.dumps(after[name])
    ]


@dataclass(frozen=True)
class Relative:
    """An unfinished run of the same config, and what has changed since."""

    path: Path
    differences: tuple[str, ...]


def unfinished_relatives(root: Path, identity: Mapping[str, Any]) -> list[Relative]:
    """Returns the runs under `root` whose identity has the same `config` but another key, and that have no result."""
    relatives: list[Relative] = []
    for path in sorted(root.glob("*/run.json")):
        try:
            other = _read_sealed(path)["identity"]
        except StateError as error:
            logger.warning("skipped a neighbour: %s", error)
            continue
        if (
            other.get("config") == identity.get("config")
            and run_key(other) != run_key(identity)
            and not (path.parent / "result.json").exists()
        ):
            relatives.append(Relative(path.parent, tuple(differences(other, identity))))
    return relatives


def check_free(root: Path, config: str) -> None:
    """Returns if no process works under `root` on a run of the config with this digest: a quick look before anything
    slow; the lock itself is `RunFolder`'s.

    Raises:
        LockedError: a process does; names it.
    """
    for path in sorted(root.glob("*/run.json")):
        with contextlib.suppress(StateError, OSError):
            if _read_sealed(path)["identity"].get("config") == config:
                os.close(_hold(path.parent / "LOCK", None))


def entries(path: Path) -> list[dict[str, Any]]:
    """Returns the journal of a run's folder as far as it goes, without its lock. Raises StateError if it is damaged."""
    journal = path / "journal.jsonl"
    return parse(journal.read_bytes(), journal, _read_sealed(path / "run.json")["key"])


class RunFolder:
    """A run's folder, open and locked. Use as a context manager; the lock ends with it, or with the process however
    that ends.

    A process forked without exec shares the lock: start children by spawn or exec.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], *, now: str) -> None:
        """Opens, or founds, the folder of the run with this identity.

        Args:
            root: folder of all runs, made if missing.
            identity: JSON data, everything that may change a bit of the result; `config` is the digest of the config.
            now: time for people, written into LOCK and, when the folder is new, into run.json.

        Raises:
            LockedError: another process holds the folder.
            StateError: run.json or the journal is damaged.
            SpaceError: the folder cannot be written.
        """
        self.key = run_key(identity)
        self.path = root / self.key
        self.report = self.path / "report"
        with writing(self.path):
            self.report.mkdir(parents=True, exist_ok=True)
            sync(root)
        self._lock = _hold(self.path / "LOCK", now)
        try:
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            self._introduce(root, identity, now)
            self.journal = Journal(self.path / "journal.jsonl", self.key)
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the folder back."""
        self.journal.close()
        with contextlib.suppress(OSError):  # the name of a process that is gone hurts nobody
            os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Writes `result.json`: JSON data, bound to the journal as it is now. Raises ValueError for NaN, SpaceError for
        no room."""
        write_atomic(
            self.path / "result.json", to_bytes(seal({"journal": self.journal.head, "result": dict(result)}), indent=2)
        )

    def result(self) -> dict[str, Any] | None:
        """Returns what `finish` was given, or None for an unfinished run. Raises StateError if it, or the journal under
        it, is damaged."""
        path = self.path / "result.json"
        if not path.exists():
            return None
        content = _read_sealed(path)
        if content["journal"] not in {self.key, *(entry["sha256"] for entry in self.journal.entries)}:
            raise StateError(
                f"{self.journal.path}: expected the line {content['journal'][:16]} that {path} was made from, found "
                f"it missing; {_advice(path)}"
            )
        return content["result"]

    def _introduce(self, root: Path, identity: Mapping[str, Any], now: str) -> None:
        path = self.path / "run.json"
        if path.exists():
            found = _read_sealed(path).get("identity", {})
            if run_key(found) != self.key:
                raise StateError(
                    f"{path}: expected the identity with run key {self.key}, found {run_key(found)}; {_advice(path)}"
                )
            return
        for relative in unfinished_relatives(root, identity):
            logger.warning(
                "started anew beside the unfinished run %s: %s", relative.path, "; ".join(relative.differences)
            )
        write_atomic(path, to_bytes(seal({"key": self.key, "created": now, "identity": dict(identity)}), indent=2))


def _hold(path: Path, now: str | None) -> int:
    """Returns the descriptor of the lock, taken; without a time to write it stays nameless."""
    with writing(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            if now is not None:
                os.pwrite(
                    lock,
                    json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "since": now}).encode() + b"\n",
                    0,
                )
        except BlockingIOError:
            holder = _holder(path)
            os.close(lock)
            raise LockedError(
                f"{path.parent}: expected a free run folder, found it held by {holder}; wait for it, or end it"
            ) from None
        except BaseException:
            os.close(lock)
            raise
    return lock


def _holder(path: Path) -> str:
    # The holder writes its name just after it takes the lock; until then the text is empty or names a process that was
    # killed.
    for _ in range(20):
        try:
            holder = json.loads(path.read_text())
        except ValueError:
            holder = {}
        if holder and (holder["host"] != os.uname().nodename or Path(f"/proc/{holder['pid']}").exists()):
            return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        time.sleep(0.01)
    return "a process that has not written its name yet"


def _read_sealed(path: Path) -> dict[str, Any]:
    try:
        return from_bytes(path.read_bytes(), indent=2)
    except (OSError, ValueError) as error:
        raise StateError(
            f"{path}: expected the file as psomerge wrote it, found that {error}; {_advice(path)}"
        ) from error


def _advice(path: Path) -> str:
    return (
        f"restore it from a backup, or move the folder {path.parent} away and run the same command again to start anew"
    )


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(content), allow_nan=False))


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Returns every value that holds no further ones, by its dotted name."""
    flat: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = list(content.items())
    while waiting:
        name, value = waiting.pop()
        parts: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            parts = list(cast(dict[str, Any], value).items())
        elif isinstance(value, list):
            parts = list(enumerate(cast(list[Any], value)))
        if parts:
            waiting += [(f"{name}.{part}", inner) for part, inner in parts]
        else:
            flat[name] = value
    return flat


def _short(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "absent"
    text = json.dumps(values[name], ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}...{text[-6:]}"
