"""One engine process as its supervisor sees it: started, asked with a deadline, ended without leaving anything
behind."""

import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.process import leftovers, messages


class LostError(Exception):
    """The process died or did not answer in time; the text says which."""


class Child:
    """An engine in a process, session and process group of its own."""

    def __init__(
        self, folders: Mapping[str, Path], engine: str, settings: EngineSettings, *, work: Path, log: Path
    ) -> None:
        """Starts the process; the answer to its `Start` message is still to come.

        Args:
            folders: local folder of `base`, then of each expert by name.
            engine: "vllm" or "transformers".
            settings: explicit and complete.
            work: existing folder; the process gets a temporary folder in it.
            log: file that its standard output and error are added to.
        """
        self._folder = leftovers.new_folder(work)
        theirs_in, self._requests = os.pipe()
        self._answers, theirs_out = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "psomerge.evals.engines.process.serve", str(theirs_in), str(theirs_out)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                    env={"TORCHINDUCTOR_CACHE_DIR": str(work / "compiled")}
                    | os.environ
                    | _environment(engine, settings)
                    | {"TMPDIR": str(self._folder)},
                    pass_fds=(theirs_in, theirs_out),
                    start_new_session=True,
                )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self.pid = self._process.pid
        leftovers.record_engine(self._folder, self.pid)
        os.set_blocking(self._requests, False)
        self._frames = messages.Frames()
        self._start = messages.Start(
            engine,
            {name: str(folder.resolve()) for name, folder in folders.items()},
            settings,
            str(self._folder),
            die_with_parent=threading.current_thread() is threading.main_thread(),
        )

    def start(self, deadline: float) -> messages.Reply:
        """Returns the answer to `Start`, once the engine is up. Raises LostError."""
        return self.ask([self._start], deadline)

    def ask(self, requests: Sequence[messages.Request], deadline: float, since: float | None = None) -> messages.Reply:
        """Sends the messages and returns the one answer to them. Raises LostError `deadline` seconds after `since`
        (now), or when the process ends."""
        end = (monotonic() if since is None else since) + deadline
        pending = memoryview(b"".join(messages.frame(request) for request in requests))
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            ready.register(self._requests, selectors.EVENT_WRITE)
            while (answer := self._frames.next()) is None:
                events = ready.select(max(0.0, end - monotonic()))
                if not events and monotonic() >= end:
                    raise LostError(f"gave no answer within {deadline:.0f} s")
                for key, _ in events:
                    if key.fd == self._answers:
                        self._receive()
                    else:
                        pending = pending[self._send(pending) :]
                        if not pending:
                            ready.unregister(self._requests)
        return answer

    def end(self) -> None:
        """Ends the whole group, stopped or not, and removes what it left. May be called again."""
        if self._process.returncode is None:
            leftovers.end_group(self.pid)  # before the leader is reaped: until then nobody else can get its number
            self._process.wait()
            os.close(self._requests)
            os.close(self._answers)
            leftovers.remove(self._folder)

    def _send(self, data: memoryview) -> int:
        try:
            return os.write(self._requests, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise LostError("died") from error

    def _receive(self) -> None:
        data = os.read(self._answers, 1 << 20)
        if not data:
            raise LostError("died")
        self._frames.add(data)


def _environment(engine: str, settings: EngineSettings) -> dict[str, str]:
    if engine == "vllm":
        from psomerge.evals.engines.vllm.engine import environment

        return environment(settings)
    return {
        "OMP_NUM_THREADS": str(settings.threads),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }
