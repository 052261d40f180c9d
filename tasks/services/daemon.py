"""One server process of a home folder: started detached, known by a record, found again, ended with all that it
started.

The record `servers/NAME.json` in the home folder holds pid, start time and port. The processes carry a mark in their
environment: a pid that has become somebody else's is never touched, and what a server left behind is found without its
record.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path

import psutil

from psomerge.errors import ServiceError
from psomerge.files.locking import exclusive
from psomerge.tasks.services.stores import make_private

LOOPBACK = "127.0.0.1"
MARK = "PSOMERGE_SERVER"  # in the environment of every server process: which one of which home
CLOCK_SLACK_S = 2.0  # a start time is derived from the boot time, which moves when the clock is set


@dataclass(frozen=True)
class Service:
    """What to start: a Python module with arguments that will listen on `port` of loopback and answer 200 at path
    `health`."""

    name: str
    port: int
    health: str
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Server:
    """What was started: `started` is the start time of process `pid` in seconds since 1970."""

    name: str
    port: int
    health: str
    pid: int
    started: float

    @property
    def page(self) -> str:
        """The address for a browser."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def api(self) -> str:
        """The address for clients: a value of PREFECT_API_URL or MLFLOW_TRACKING_URI."""
        return f"{self.page}/api" if self.name == "prefect" else self.page


def start(home: Path, service: Service, *, deadline_s: float) -> Server:
    """The server, once it answers; the one of this name and home that lives already, if one does, whatever its port.

    Args:
        home: absolute path of the home folder.
        service: what to start.
        deadline_s: seconds after which a server that does not answer is ended.

    Raises:
        ServiceError: the port is taken, or the server ended or did not answer in time; names its log.
    """
    with _locked(home, service.name):
        server = _recorded(home, service.name)
        if server is None or not _lives(server):
            _end(home, service.name, patience_s=0.0)  # what a dead server left behind
            _check_free(service)
            pid = _spawn(home, service)
            server = Server(service.name, service.port, service.health, pid, psutil.Process(pid).create_time())
            _record(home, service.name).write_text(json.dumps(asdict(server)))
        try:
            _await_answer(home, server, deadline_s)
        except BaseException:
            _end(home, service.name, patience_s=5.0)
            raise
        return server


def find(home: Path, name: str) -> Server | None:
    """Server `name` of `home` (an absolute path) if it lives and answers now."""
    server = _recorded(home, name)
    return server if server and _lives(server) and _answers(server) else None


def stop(home: Path, name: str, *, patience_s: float = 15.0) -> None:
    """End server `name` of `home` (an absolute path) and all its processes, if it runs: asked first, killed after
    `patience_s` seconds."""
    with _locked(home, name):
        _end(home, name, patience_s)


def free_port() -> int:
    """A port of loopback on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def _spawn(home: Path, service: Service) -> int:
    """The pid of a detached process: own session, output to a log file, working folder `home` (both libraries read
    settings files from theirs)."""
    argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(home), sys.executable, "-P", "-m", *service.command]
    log = os.open(_log(home, service.name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    try:
        # Not subprocess: the server may outlive this process, and the next one has nothing but the record either.
        return os.posix_spawn(
            argv[0], argv, {**service.environment, MARK: _mark(home, service.name)}, file_actions=files, setsid=True
        )
    finally:
        os.close(log)


def _await_answer(home: Path, server: Server, deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not _answers(server):
        problem = (
            "ended at once"
            if not _lives(server)
            else f"did not answer within {deadline_s:g} s"
            if time.monotonic() > end
            else None
        )
        if problem:
            log = _log(home, server.name)
            raise ServiceError(
                f"the {server.name} server on {server.page} {problem}; it said: {_last_words(log)} (all of it in {log})"
            )
        time.sleep(0.2)


def _last_words(log: Path) -> str:
    """The last line that names an error, else the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error:" in line]
    return (errors or lines or ["nothing"])[-1]


def _answers(server: Server) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on loopback
    try:
        with direct.open(server.page + server.health, timeout=5) as answer:
            return answer.status == 200
    except (OSError, HTTPException):
        return False


def _lives(server: Server) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)  # one that this process started and that has ended must not stay as a zombie
    try:
        process = psutil.Process(server.pid)
        return abs(process.create_time() - server.started) < CLOCK_SLACK_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _members(home: Path, name: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == _mark(home, name):
                found.append(process)
    return found


def _end(home: Path, name: str, patience_s: float) -> None:
    for signal_number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
        members = _members(home, name)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
        psutil.wait_procs(members, timeout=seconds)
    _record(home, name).unlink(missing_ok=True)


def _mark(home: Path, name: str) -> str:
    return f"{name} of {home}"


def _recorded(home: Path, name: str) -> Server | None:
    try:
        return Server(**json.loads(_record(home, name).read_text()))
    except (OSError, ValueError, TypeError):
        return None  # none, or cut short by a full disk: then nothing can be known from it


def _record(home: Path, name: str) -> Path:
    return home / "servers" / f"{name}.json"


def _log(home: Path, name: str) -> Path:
    return home / "servers" / f"{name}.log"


def _locked(home: Path, name: str) -> contextlib.AbstractContextManager[None]:
    return exclusive(make_private(home / "servers") / f"{name}.lock")


def _check_free(service: Service) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, service.port))
        except OSError as error:
            text = (
                f"the {service.name} server needs port {service.port} on {LOOPBACK}, found it taken "
                f"({error.strerror}); give another one"
            )
            raise ServiceError(text) from error
