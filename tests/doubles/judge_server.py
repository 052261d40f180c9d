"""An OpenAI-compatible server on loopback whose replies a test writes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class JudgeServer:
    """What was asked, and what is answered."""

    reply: Callable[[dict[str, Any]], str | int | tuple[int, str] | None]
    """From the request: the text of the reply, an HTTP status with or without a message, or None for a text that is cut
    off."""
    address: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    """Authorization header of each request."""


@contextmanager
def judge_server(reply: Callable[[dict[str, Any]], str | int | tuple[int, str] | None]) -> Iterator[JudgeServer]:
    """Runs the server in a thread until the end of the block."""
    state, lock = JudgeServer(reply), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.requests.append(request)
                state.keys.append(self.headers["Authorization"])
            answer = state.reply(request) if self.path == "/v1/chat/completions" else 404
            status, message = (
                (answer, "refused") if isinstance(answer, int) else answer if isinstance(answer, tuple) else (200, "")
            )
            choice = {
                "index": 0,
                "finish_reason": "length" if answer is None else "stop",
                "message": {"role": "assistant", "content": answer or "cut"},
            }
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [choice],
            }
            data = json.dumps(body if status == 200 else {"error": {"message": message}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
