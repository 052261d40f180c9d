"""A model hub on loopback that the stock client takes for the real one, with faults to order.

Speaks what a download needs: a revision's commit and files, its tree, and the files themselves by HEAD and GET with
their entity tags, by ranges too.
"""

import hashlib
import http.server
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub.constants
import pytest

from psomerge.tasks.sources.hub import client as hub

LARGE = (".safetensors", "tokenizer.json")
"""Ends of the names that lie in large file storage, so have a SHA-256."""
_PIECE = 2**18
"""Bytes that are written at a time."""
_API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/?]+)")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


@dataclass(frozen=True)
class Virtual:
    """A file of which the first bytes are real and the rest, up to its size, is declared only: nobody can ask for more
    than a range of it."""

    start: bytes
    size: int

    def __len__(self) -> int:
        return self.size

    def part(self, first: int, last: int) -> bytes:
        """Bytes `first` to `last`, both included; zeros behind the real ones."""
        return self.start[first : last + 1].ljust(last + 1 - first, b"\0")


Content = bytes | Virtual


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    token: str | None
    range: str | None


@dataclass
class Repository:
    """Commits by hash, branches and tags by name."""

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    gated: bool = False


Fault = Callable[[Request], str | int | None]
"""What to do with a request: None to answer it; a status; `reset`, `flip` (a byte of a file), `short` (half of it, as
if that were all), `cut` (half of it), `stall` (half of it, and then nothing for as long as the server runs), `whole`
(all of it, whatever range was asked for)."""


@dataclass
class Hub:
    """What the server has, and what it was asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    tokens: tuple[str, ...] = ()
    """Those that are valid; any other is refused."""
    fault: Fault = lambda request: None
    sent: list[int] = field(default_factory=list)
    """Bytes of the answers' bodies, piece by piece."""
    closing: threading.Event = field(default_factory=threading.Event)

    def push(self, repo: str, files: Mapping[str, Content] | Path, *, name: str = "main") -> str:
        """Commits these files, or those of a folder, to a branch or tag; returns the commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in sorted(files.iterdir()) if path.is_file()}
        repository = self.repositories.setdefault(repo, Repository())
        commit = hashlib.sha1(json.dumps([len(repository.commits), sorted(files)]).encode() + repo.encode()).hexdigest()
        repository.commits[commit] = dict(files)
        repository.names[name] = commit
        return commit

    def times(self, fault: str | int, *, only: str = "", count: int = 1) -> None:
        """Makes the next `count` requests whose path holds `only` fail so."""
        left = [count]

        def decide(request: Request) -> str | int | None:
            if only not in f"{request.method} {request.path}" or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        self.fault = decide


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@lru_cache(maxsize=4096)
def _entry(name: str, content: Content) -> dict:
    if not name.endswith(LARGE):
        assert isinstance(content, bytes), "only what lies in large file storage may be virtual"
        return {"size": len(content), "oid": _blob(content)}
    digest = hashlib.sha256(content if isinstance(content, bytes) else content.start).hexdigest()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (digest.encode(), len(content))
    return {
        "size": len(content),
        "oid": _blob(pointer),
        "lfs": {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": len(pointer)},
    }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the acknowledgement of its headers
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        request = Request(self.command, unquote(self.path), token, self.headers.get("Range"))
        self.hub.requests.append(request)
        fault = self.hub.fault(request)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif isinstance(fault, int):
            self._say(fault, b"{}")
        elif token and token not in self.hub.tokens:
            self._say(401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif match := _API.match(self.path):
            self._describe(unquote(match["repo"]), match["what"], unquote(match["revision"]))
        elif match := _FILE.match(self.path):
            self._deliver(unquote(match["repo"]), unquote(match["revision"]), unquote(match["name"]), request, fault)
        else:
            self._say(404, b"{}")

    do_HEAD = do_GET  # noqa: N815

    def _found(self, repo: str, revision: str) -> tuple[str, dict[str, Content]] | None:
        if (repository := self.hub.repositories.get(repo)) is None:
            self._say(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
            return None
        commit = repository.names.get(revision, revision)
        if commit not in repository.commits:
            self._say(
                404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            )
            return None
        return commit, repository.commits[commit]

    def _describe(self, repo: str, what: str, revision: str) -> None:
        if (found := self._found(repo, revision)) is None:
            return
        commit, files = found
        entries = {name: _entry(name, content) for name, content in files.items()}
        if what == "tree":
            content: object = [{"type": "file", "path": name, **entry} for name, entry in entries.items()]
        else:
            siblings = [{"rfilename": name, "blobId": entry["oid"], **entry} for name, entry in entries.items()]
            content = {"id": repo, "modelId": repo, "sha": commit, "private": False, "siblings": siblings}
        self._say(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _deliver(self, repo: str, revision: str, name: str, request: Request, fault: str | int | None) -> None:
        if (found := self._found(repo, revision)) is None:
            return
        commit, files = found
        if self.hub.repositories[repo].gated and request.token is None:
            self._say(
                403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {repo} is restricted."}
            )
            return
        if name not in files:
            self._say(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content, entry = files[name], _entry(name, files[name])
        tag = entry["lfs"]["sha256"] if "lfs" in entry else entry["oid"]
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{tag}"',
            "X-Linked-Etag": f'"{tag}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        self._send(content, headers, request, fault)

    def _send(self, content: Content, headers: dict[str, str], request: Request, fault: str | int | None) -> None:
        status = 200
        if (
            request.range
            and request.method == "GET"
            and fault != "whole"
            and (match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.range))
        ):
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = (
                content.part(first, last) if isinstance(content, Virtual) else content[first : last + 1],
                206,
            )
        if isinstance(content, Virtual):
            content = b"a range of a virtual file is all that there is"
            status = 500
        if request.method == "GET" and fault == "flip":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if request.method == "GET" and fault == "short":
            content = content[: len(content) // 2]
        self._say(status, content, headers, cut=request.method == "GET" and fault in ("cut", "stall"))
        if request.method == "GET" and fault == "stall":
            self.hub.closing.wait(60)

    def _say(self, status: int, content: bytes, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # whoever has read enough may hang up
                sent = content[: len(content) // 2] if cut else content
                for start in range(0, len(sent), _PIECE):
                    piece = sent[start : start + _PIECE]
                    self.wfile.write(piece)
                    self.hub.sent.append(len(piece))
                self.wfile.flush()
        if cut:
            self.close_connection = True


@contextmanager
def serving() -> Iterator[Hub]:
    """An empty hub on loopback."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def passed_off(server: Hub, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Has the client in this process take a server for the real hub, without a token, and wait for nothing between two
    tries."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(folder / "no token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "BACKOFF", (0.01, 0.01))
    monkeypatch.setattr(hub, "DOWNLOAD_BACKOFF", (0.01,))
