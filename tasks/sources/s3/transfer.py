"""Files of S3 into a folder: several at a time, each in blocks, and what broke off goes on where it did.

Whether the files are those that were listed is proven in `tasks.sources.s3.revision`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from threading import Event, Lock

from psomerge.files.durable import writing
from psomerge.tasks.sources.cache.temporary import Temporary
from psomerge.tasks.sources.s3.connection import WORKERS, Connection, Object
from psomerge.tasks.sources.s3.errors import BrokenError, may_pass, worthless

BACKOFF = (0.5, 1.0, 2.0, 4.0)
"""Seconds before the rest of a block that broke off is asked for."""
CHUNK = 2**20
TEMPORARY = ".partial"
"""Folder of files in the making, below that of the finished ones."""


def download(
    connection: Connection,
    objects: Mapping[str, Object],
    folder: Path,
    on_bytes: Callable[[int], None],
    on_file: Callable[[str], None],
) -> None:
    """Puts objects into a folder; finished blocks of an earlier attempt are kept.

    Args:
        connection: to S3.
        objects: by plain file name; none of them is in the folder.
        folder: to fill.
        on_bytes: called with the bytes that are there so far, from several threads.
        on_file: called with the name of each file that has come, while others are still coming, from several threads.

    Raises:
        ArtefactError: an object is no longer as listed.
        ServiceError: S3 does not deliver.
        SpaceError: the folder is full or cannot be written.
    """
    with writing(folder):
        for place in (folder, folder / TEMPORARY):
            for name in objects:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
    files = {name: Temporary(folder / TEMPORARY / name, one.size) for name, one in objects.items()}
    blocks = [(name, block) for name, file in files.items() for block in file.lacking()]
    left, ended = Counter(name for name, _ in blocks), Event()
    there = sum(one.size for one in objects.values()) - sum(len(block) for _, block in blocks)
    count = _counter(there, on_bytes)

    def get(name: str, block: range) -> str:
        def write(at: int, content: bytes) -> None:
            if ended.is_set():
                raise InterruptedError
            files[name].write(at, content)
            count(len(content))

        _read(connection, name, objects[name], block, write)
        files[name].finish(block)
        return name

    def publish(name: str) -> None:
        files[name].publish(folder / name)
        on_file(name)

    with connection.worded(), ThreadPoolExecutor(WORKERS) as publishing, ThreadPoolExecutor(WORKERS) as getting:
        try:
            coming = [getting.submit(get, name, block) for name, block in blocks]
            published = [publishing.submit(publish, name) for name in files if not left[name]]
            for one in as_completed(coming):
                left[name := one.result()] -= 1
                if not left[name]:
                    published.append(publishing.submit(publish, name))
            for one in published:
                one.result()
        except BaseException:
            ended.set()
            getting.shutdown(wait=False, cancel_futures=True)
            raise


def read_start(connection: Connection, name: str, one: Object, count: int) -> bytes:
    """Returns the first bytes of an object, repeated where that may help.

    Args:
        connection: to S3.
        name: plain file name.
        one: as it was listed.
        count: bytes, no more than the object has.

    Raises:
        ArtefactError: the object is no longer as listed.
        ServiceError: S3 does not deliver.
    """
    found = bytearray(count)

    def write(at: int, content: bytes) -> None:
        found[at : at + len(content)] = content

    with connection.worded():
        _read(connection, name, one, range(count), write)
    return bytes(found)


def _read(connection: Connection, name: str, one: Object, block: range, write: Callable[[int, bytes], None]) -> None:
    """Calls `write` with offset and bytes of a block of an object as they come; where they break off, the rest is asked
    for."""
    at, backoff = block.start, list(BACKOFF)
    while at < block.stop:
        begin = at
        try:
            for content in _stream(connection, name, one, range(at, block.stop)):
                write(at, content)
                at += len(content)
            if at < block.stop:
                raise BrokenError(name)
        except Exception as error:  # the client's errors share no other base
            if not backoff or not may_pass(error):
                raise
            at = begin if worthless(error) else at
            time.sleep(backoff.pop(0))


def _stream(connection: Connection, name: str, one: Object, block: range) -> Iterator[bytes]:
    """Yields the bytes of a range of an object as they come, and no more than these."""
    answer = connection.ask("get_object", name, one, Range=f"bytes={block.start}-{block.stop - 1}")
    with closing(answer["Body"]) as body:
        if answer.get("ContentRange") != f"bytes {block.start}-{block.stop - 1}/{one.size}":
            raise BrokenError(name)
        left = len(block)
        for content in body.iter_chunks(CHUNK):
            yield content[:left]  # no server writes over the next block
            left -= len(content[:left])


def _counter(there: int, on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    """Returns what adds up bytes, from several threads, and tells their sum."""
    total, adding = [there], Lock()

    def count(more: int) -> None:
        with adding:
            total[0] += more
        on_bytes(total[0])

    return count
