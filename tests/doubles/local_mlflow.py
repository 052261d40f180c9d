"""MLflow stores for tests: a SQLite file with its tables made once, and a real server behind a proxy that loses
responses."""

import functools
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from made.models import tiny_llama
from psomerge.checkpoint.pins import pin
from psomerge.recipe import Recipe
from psomerge.tasks.release import publish
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store


@functools.cache
def _tables() -> bytes:
    # Making the tables takes seconds, copying them none.
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        with connect(Store(f"sqlite:///{database}", Path(folder))) as client:
            client.search_experiments()
        return database.read_bytes()


def local_store(folder: Path) -> Store:
    """A store of its own in `folder`."""
    (folder / "mlflow.db").write_bytes(_tables())
    return Store(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")


def published(folder: Path, *, seed: int = 0) -> Path:
    """A published tiny model in `folder / "published"`."""
    checkpoint = tiny_llama(folder / "checkpoint", seed)
    recipe = Recipe(base=pin(checkpoint, "base", str(checkpoint)), experts=())
    return publish.lay_out(checkpoint, folder / "published", recipe=recipe, card="# a card\n")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a real `mlflow server` on loopback over a store in `folder`."""
    store = local_store(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store.tracking_uri, "--artifacts-destination", str(store.artifacts)]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | settings, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address, process, folder / "server.log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"mlflow server does not answer: {log.read_text()[-2000:]}")


@contextmanager
def lossy_proxy(target: str, lose: Callable[[str, str, int], str]) -> Iterator[str]:
    """The address of a proxy to `target` that asks for each request what to do with it.

    Args:
        lose: From method, path and how often that pair came before to `pass`, `response` (the server acts, the client
            hears nothing), `request` (the server hears nothing) or `late` (the client hears nothing, and the server
            acts half a second later).
    """
    seen: Counter[tuple[str, str]] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            what = lose(self.command, path, seen[self.command, path])
            seen[self.command, path] += 1
            if what == "late":
                threading.Timer(0.5, self._forward, [body]).start()
            elif what != "request":
                status, kind, content = self._forward(body)
                if what == "pass":
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                    return
            self.close_connection = True

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def _forward(self, body: bytes) -> tuple[int, str, bytes]:
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            request = urllib.request.Request(target + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, answer.headers.get("Content-Type", ""), answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers.get("Content-Type", ""), error.read()

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
