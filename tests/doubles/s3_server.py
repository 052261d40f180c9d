"""moto's S3 on loopback behind a proxy that keeps what it was asked and makes requests fail to order."""

import http.client
import http.server
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from psomerge.tasks.sources.cache import temporary
from psomerge.tasks.sources.s3 import transfer as s3_transfer

KEY, SECRET = "AKIA0123456789HIDDEN", "a-very/secret+key-0123456789"

Act = Callable[["Request"], str | int | tuple[int, str] | None]
"""What to do with a request: None to pass it on; a status, with S3's name for it or without a body; `reset`; of the
body: `cut` (half of it), `short` (half of it, as if that were all), `flip` (a byte), `stall` (half of it, and then
nothing for as long as the server runs), `whole` (the range that was asked for is overlooked); `pages` (a listing comes
in pages of two)."""


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class S3:
    """What the proxy was asked, and a client that goes round it."""

    address: str
    behind: tuple[str, int]
    client: Any
    requests: list[Request] = field(default_factory=list)
    act: Act = lambda request: None
    closing: threading.Event = field(default_factory=threading.Event)

    def put(self, files: Mapping[str, bytes], prefix: str = "models/one/", bucket: str = "bucket") -> None:
        """Writes objects below a prefix."""
        for name, content in files.items():
            self.client.put_object(Bucket=bucket, Key=prefix + name, Body=content)

    def times(self, act: str | int | tuple[int, str], *, only: str = "", count: int = 1) -> None:
        """Makes the next `count` requests whose `METHOD PATH` holds `only` go so."""
        left = [count]

        def decide(request: Request) -> str | int | tuple[int, str] | None:
            if only not in f"{request.method} {request.path}" or left[0] == 0:
                return None
            left[0] -= 1
            return act

        self.act = decide

    def asked(self) -> list[str]:
        """`METHOD NAME` of each request for an object, `LIST` or `VERSIONS` for a listing."""
        listings = {"versions": "VERSIONS", "list-type": "LIST"}
        said: list[str] = []
        for request in self.requests:
            path, _, query = request.path.partition("?")
            kind = next(
                (text for mark, text in listings.items() if query.startswith(mark) or f"&{mark}" in query), None
            )
            said.append(kind or f"{request.method} {path.rpartition('/')[2]}")
        return said


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: S3

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        request = Request(self.command, unquote(self.path), dict(self.headers.items()))
        self.s3.requests.append(request)
        act = self.s3.act(request)
        if act == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif isinstance(act, int):
            self._say(act, b"", {})
        elif isinstance(act, tuple):
            # as a server that says too much
            body = f"<Error><Code>{act[1]}</Code><Message>{self.headers.get('Authorization')}</Message></Error>"
            self._say(act[0], body.encode(), {"x-amz-bucket-region": "eu-west-1"} if "Redirect" in act[1] else {})
        else:
            self._pass_on(act)

    do_HEAD = do_GET  # noqa: N815

    def _pass_on(self, act: str | None) -> None:
        upstream = http.client.HTTPConnection(*self.s3.behind, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if not (act == "whole" and name == "Range")}
            upstream.request(self.command, self.path + ("&max-keys=2" if act == "pages" else ""), headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
            kept = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("server", "date", "connection", "transfer-encoding")
            }
        finally:
            upstream.close()
        if act == "flip":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if act == "short":
            body = body[: len(body) // 2]
            kept["Content-Length"] = str(len(body))
        self._say(answer.status, body, kept, half=act in ("cut", "stall"))
        if act == "stall":
            self.s3.closing.wait(60)

    def _say(self, status: int, body: bytes, headers: Mapping[str, str], *, half: bool = False) -> None:
        self.send_response_only(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.wfile.flush()
        self.close_connection = self.close_connection or half


@contextmanager
def moto() -> Iterator[tuple[str, int]]:
    """moto's server on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[str, int]]:
    """moto's server, for a module's tests."""
    with moto() as place:
        yield place


@contextmanager
def serving(behind: tuple[str, int]) -> Iterator[S3]:
    """An empty bucket called `bucket`, through a proxy of its own."""
    address = "http://{}:{}".format(*behind)
    settings = Config(
        s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
    )  # checksums only where a test asks for them
    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="one",
        aws_secret_access_key="two",
        config=settings,
    )
    s3 = S3("", behind, client)
    handler = type("Handler", (_Handler,), {"s3": s3})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    s3.address = f"http://127.0.0.1:{server.server_address[1]}"
    client.create_bucket(Bucket="bucket")
    try:
        yield s3
    finally:
        s3.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
        reset(behind)
        client.close()


def passed_off(s3: S3, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes AWS's tools take a proxy for S3, with credentials from the environment alone; nothing is waited for between
    two tries, and blocks are small."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": s3.address,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_MAX_ATTEMPTS": "1",
    }
    settings |= {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "keys"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_transfer, "BACKOFF", (0.01, 0.01))
    monkeypatch.setattr(temporary, "BLOCK", 2**15)


def reset(behind: tuple[str, int]) -> None:
    """Empties moto."""
    connection = http.client.HTTPConnection(*behind, timeout=30)
    try:
        connection.request("POST", "/moto-api/reset")
        assert connection.getresponse().read()
    finally:
        connection.close()
