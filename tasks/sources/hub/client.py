"""The Hugging Face hub, or a mirror named by HF_ENDPOINT: what a revision is and holds, and its files. Nothing else
talks to it.

The token, if any, is found by the hub's own client (HF_TOKEN, or what `hf auth login` has left); it is neither read nor
passed on here, and no message quotes the client's, which may hold signed addresses. Whether files are those that the
hub has is proven in `tasks.sources.hub.revision`.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from psomerge.tasks.quiet import quiet
from psomerge.tasks.services.stores import QUIET
from psomerge.tasks.sources.hub.errors import MissingError, may_pass, translated

COMMIT = re.compile(r"[0-9a-f]{40}")
WORKERS = 8
BACKOFF = (1.0, 2.0, 4.0)
"""Seconds before a question is repeated; the client itself repeats none."""
DOWNLOAD_BACKOFF = (1.0,)
"""The client repeats what fails within a download, but not a file that came short."""
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """What the hub says of a file."""

    size: int
    """Bytes."""
    sha256: str | None
    """In hex; of files in its large file storage only."""
    blob: str | None
    """Git's SHA-1 of the file, or of its pointer if it is in large file storage."""


@dataclass(frozen=True)
class Commit:
    """A commit of a repository."""

    commit: str
    """40 hex digits."""
    files: Mapping[str, RemoteFile]
    """By path in the repository, as the hub sends it: not yet a path to write to."""


@dataclass(frozen=True)
class Repository:
    """A model's repository, and the address to name in messages."""

    name: str
    """ORG/NAME."""
    address: str


def look_up(repository: Repository, revision: str) -> Commit:
    """Returns the commit that a branch, tag or commit is now, and its files, in one request.

    Raises:
        ArtefactError: no such repository or revision.
        ServiceError: no network, no right, or an answer that is none of a hub.
    """

    def ask() -> Commit:
        return _commit(
            _client()
            .HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
            .model_info(repository.name, revision=revision, files_metadata=True, timeout=10)
        )

    return _retrying(ask, repository, BACKOFF)


def _commit(info: Any) -> Commit:
    commit = info.sha
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise ValueError("no commit in the hub's answer")
    files: dict[str, RemoteFile] = {}
    for one in info.siblings or []:
        if isinstance(one.rfilename, str):
            size = one.lfs["size"] if one.lfs else one.size
            files[one.rfilename] = RemoteFile(int(size or 0), one.lfs["sha256"] if one.lfs else None, one.blob_id)
    return Commit(commit, files)


def download(
    repository: Repository,
    commit: str,
    names: Sequence[str],
    folder: Path,
    on_bytes: Callable[[int], None],
    on_file: Callable[[str], None],
) -> None:
    """Puts files of a commit into a folder as plain files, several at a time; those that are there and finished are
    left as they are.

    Args:
        repository: to download from.
        commit: 40 hex digits.
        names: plain file names at the top of the repository.
        folder: made if missing; the client keeps its notes in `.cache` there.
        on_bytes: called with the bytes written so far, from several threads.
        on_file: called with the name of each file that is there, while others are still coming, from several threads.

    Raises:
        ArtefactError: a file is not there.
        ServiceError: no network, no right, or the hub does not deliver.
        SpaceError: the folder is full or cannot be written.
    """

    written = dict.fromkeys(names, 0)

    def count(name: str, size: int) -> None:
        written[name] = size
        on_bytes(sum(written.values()))

    def get(name: str) -> None:
        def ask() -> None:
            _client().hf_hub_download(
                repository.name,
                name,
                revision=commit,
                local_dir=folder,
                cache_dir=folder / ".cache" / "none",  # else files are copied from the user's own cache, unproven
                tqdm_class=_counter(lambda size: count(name, size)),
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )

        _retrying(ask, repository, DOWNLOAD_BACKOFF)
        on_file(name)

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for _ in pool.map(get, names):
            pass


def read_start(repository: Repository, commit: str, name: str, count: int) -> bytes:
    """Returns the first bytes of a file of a commit, and transfers no more even where the server sends the whole file.

    Args:
        repository: to read from.
        commit: 40 hex digits.
        name: of the file.
        count: bytes, no more than the file has.

    Raises:
        ArtefactError: a file is not there.
        ServiceError: no network, no right, or the hub does not deliver.
    """

    def get() -> bytes:
        client = _client()
        url = client.hf_hub_url(repository.name, name, revision=commit, endpoint=os.environ.get("HF_ENDPOINT") or None)
        # As the client reads headers itself, but that it takes no whole file for an answer, and keeps none of the
        # bytes.
        headers = client.utils.build_hf_headers() | {"Range": f"bytes=0-{count - 1}", "Accept-Encoding": "identity"}
        with client.get_session().stream("GET", url, headers=headers, timeout=10) as response:
            if response.is_error:
                response.read()  # the client looks into it for the reason
            client.utils.hf_raise_for_status(response)
            content = bytearray()
            for piece in response.iter_bytes():
                content += piece
                if len(content) >= count:
                    return bytes(content[:count])
            raise MissingError(name)

    return _retrying(get, repository, BACKOFF)


def _client() -> Any:
    os.environ |= {
        name: value for name, value in QUIET.items() if name not in os.environ
    }  # it reads them when it is imported
    import huggingface_hub

    return huggingface_hub


def _retrying(call: Callable[[], T], repository: Repository, backoff: Sequence[float]) -> T:
    """Returns what a call to the hub returns, repeated where that may help."""
    waiting = list(backoff)
    while True:
        try:
            with quiet("huggingface_hub"):
                return call()
        except Exception as error:  # the client's errors and those of its HTTP library share no other base
            if not waiting or not may_pass(error):
                raise translated(error, address=repository.address, name=repository.name) from error
        time.sleep(waiting.pop(0))


def _counter(told: Callable[[int], None]) -> type:
    """Returns what the client takes for a progress bar's class: it adds bytes up, and shows nothing."""
    most = [0]

    class Counter:
        format_dict: Mapping[str, Any] = {}

        def __init__(
            self, *_: object, unit: str = "", total: int | None = None, initial: int = 0, **__: object
        ) -> None:
            self.unit, self.total, self.n = unit, total, initial

        def __enter__(self) -> "Counter":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, n: float | None = 1) -> None:
            self.n += int(n or 0)
            if self.unit == "B" and self.n > most[0]:  # one bar counts bytes received, one bytes written, a third files
                most[0] = self.n
                told(self.n)

        def nothing(self, *_: object, **__: object) -> None:
            pass

        close = refresh = clear = reset = set_description = set_description_str = set_postfix_str = set_postfix = (
            nothing
        )

    return Counter
