"""Prefect's own temporary server, for a run without one: it outlives Ctrl-C long enough to be told of it, and a kill -9
of the run not beyond the next start.

By default a terminal's Ctrl-C reaches it as well: it dies first, and the interrupted run waits minutes for it.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psomerge.errors import ServiceError
from psomerge.evals.engines.host import start_time
from psomerge.tasks.services.stores import make_private


def start_local(home: Path) -> None:
    """Starts the server of this process; it ends with the process. Servers of this home whose process was killed are
    ended before.

    Args:
        home: absolute path of the home folder, prepared.

    Raises:
        ServiceError: it does not come up.
    """
    from prefect.server.api.server import SubprocessASGIServer

    records = make_private(home / "prefect" / "local")
    _sweep(records)
    log = records / "server.log"
    server = SubprocessASGIServer()  # the one that Prefect's clients will ask for
    # A blocked signal stays blocked in a child, whatever handler that installs.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _stderr_into(log):
            server.start()
        assert server.server_process is not None
        record = {"run": _identity(os.getpid()), "server": _identity(server.server_process.pid)}
        (records / f"{os.getpid()}.json").write_text(json.dumps(record))
    except RuntimeError as error:
        raise ServiceError(
            f"Prefect's temporary server did not start: {' '.join(str(error).split())[:300]}; see {log}, then repeat "
            "the command"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _stderr_into(log: Path) -> Iterator[None]:
    """Standard error of the block's child processes goes to a file: the server writes a page of traceback for each
    request that fails."""
    before = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _sweep(records: Path) -> None:
    for path in records.glob("*.json"):
        try:
            record = json.loads(path.read_text())
            if _lives(record["run"]):
                continue
            if _lives(record["server"]):
                with suppress(ProcessLookupError):
                    os.kill(record["server"]["pid"], signal.SIGKILL)
        except (OSError, ValueError, TypeError, KeyError):
            pass  # cut short by the kill: then nothing can be known from it
        path.unlink(missing_ok=True)


def _identity(pid: int) -> dict[str, object]:
    return {"pid": pid, "start": start_time(pid)}


def _lives(identity: dict[str, object]) -> bool:
    # Process numbers are used again; a start time is not.
    return identity["start"] is not None and start_time(int(str(identity["pid"]))) == identity["start"]
