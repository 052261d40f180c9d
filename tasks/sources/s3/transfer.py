"""Files of S3 into a folder: several at a time, each in blocks, and what broke off goes on where it did.

Whether the files are those that were listed is proven in `tasks.sources.s3.revision`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from psomerge.files.durable import writing
from psomerge.tasks.sources.cache.temporary import Temporary, temporary
from psomerge.tasks.sources.s3.connection import Connection, Object
from psomerge.tasks.sources.s3.errors import BrokenError, may_pass, worthless
from psomerge.tasks.sources.s3.listing import WORKERS

WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds before the rest of a block that broke off is asked for."""
CHUNK = 2**20
TEMPORARY = ".partial"
"""Folder of files in the making, below that of the finished ones."""


def download(
    connection: Connection,
    objects: Mapping[str, Object],
    folder: Path,
    told: Callable[[int], None],
    then: Callable[[str], None],
) -> None:
    """Puts objects into a folder; those that are there stay, and finished blocks of an earlier attempt are kept.

    Args:
        connection: to S3.
        objects: by plain file name.
        folder: to fill.
        told: called with the bytes that are there so far, from another thread.
        then: called with the name of each file that has come, while others are still coming, from other threads.

    Raises:
        ArtefactError: an object is no longer as listed.
        ServiceError: S3 does not deliver.
        SpaceError: the folder is full or cannot be written.
    """
    with writing(folder):
        (folder / TEMPORARY).mkdir(exist_ok=True)
    connection.run(_Download(connection, objects, folder, told, then).run())


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

    async def get() -> bytes:
        waits = list(WAITS)
        while True:
            try:
                content = b"".join([piece async for piece in stream(connection, name, one, 0, count)])
                if len(content) < count:
                    raise BrokenError(name)
                return content
            except Exception as error:  # the client's errors and those of its HTTP library share no other base
                if not waits or not may_pass(error):
                    raise
                await asyncio.sleep(waits.pop(0))

    return connection.run(get())


async def stream(connection: Connection, name: str, one: Object, start: int, stop: int) -> AsyncIterator[bytes]:
    """Yields the bytes of a range of an object as they come."""
    answer = await connection.ask("get_object", name, one, Range=f"bytes={start}-{stop - 1}")
    async with answer["Body"] as body:
        if answer.get("ContentRange") != f"bytes {start}-{stop - 1}/{one.size}":
            raise BrokenError(name)
        async for content in body.iter_chunks(CHUNK):
            yield content[: stop - start]  # no server writes over the next block
            start += len(content)


class _Download:
    """One call of `download`: what its requests share."""

    def __init__(
        self,
        connection: Connection,
        objects: Mapping[str, Object],
        folder: Path,
        told: Callable[[int], None],
        then: Callable[[str], None],
    ) -> None:
        self._connection, self._objects, self._folder, self._told, self._then = connection, objects, folder, told, then
        self._files, self._requests = asyncio.Semaphore(WORKERS), asyncio.Semaphore(WORKERS)
        self._there = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name in self._objects:
                group.create_task(self._file(name))

    async def _file(self, name: str) -> None:
        async with self._files:
            with temporary(self._folder / TEMPORARY / name, self._objects[name].size) as file:
                lacking = file.lacking()
                self._add(self._objects[name].size - sum(map(len, lacking)))
                async with asyncio.TaskGroup() as group:
                    for block in lacking:
                        group.create_task(self._block(name, block, file))
                file.publish(self._folder / name)
        await asyncio.get_running_loop().run_in_executor(None, self._then, name)

    async def _block(self, name: str, block: range, file: Temporary) -> None:
        at, waits = block.start, list(WAITS)
        async with self._requests:
            while at < block.stop:
                begin = at
                try:
                    async for content in stream(self._connection, name, self._objects[name], at, block.stop):
                        file.write(at, content)
                        at += len(content)
                        self._add(len(content))
                    if at < block.stop:
                        raise BrokenError(name)
                except Exception as error:  # the client's errors and those of its HTTP library share no other base
                    if not waits or not may_pass(error):
                        raise
                    if worthless(error):
                        self._add(begin - at)
                        at = begin
                    await asyncio.sleep(waits.pop(0))
            await asyncio.get_running_loop().run_in_executor(None, file.finish, block)

    def _add(self, count: int) -> None:
        self._there += count
        self._told(self._there)
