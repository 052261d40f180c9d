"""The connection to S3, or to what speaks its protocol at AWS_ENDPOINT_URL, through s3fs. Nothing else opens one.

Credentials, profile, region and endpoint are found by the client itself, in the environment and in AWS's own files;
they are neither read nor passed on here, and no message quotes the client's. Where there are no credentials, requests
are anonymous. The client repeats requests (AWS_MAX_ATTEMPTS).
"""

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from psomerge.errors import ConfigError
from psomerge.tasks.quiet import quiet
from psomerge.tasks.sources.s3.errors import GONE, ChangedError, code, translated

_LOGGERS = ("botocore", "aiobotocore", "s3fs", "fsspec", "aiohttp", "asyncio")
T = TypeVar("T")


@dataclass(frozen=True)
class Prefix:
    """Where the files of a model lie."""

    address: str
    """As the user gave it, for messages."""
    bucket: str
    key: str
    """What all names begin with: empty, or ends with a slash."""

    @property
    def url(self) -> str:
        """The address without a revision."""
        return f"s3://{self.bucket}/{self.key}".rstrip("/")


@dataclass(frozen=True)
class Object:
    """What S3 says of a file."""

    size: int
    """Bytes."""
    etag: str
    """Changes with the content; without quotation marks."""
    version: str | None = None
    """Where the bucket keeps versions."""
    sha256: str | None = None
    """In hex, where S3 has that of the whole file."""
    md5: str | None = None
    """In hex, where the ETag is one: of a file that came in one part and is not encrypted with a key of its own."""


class Connection:
    """Requests about one prefix; opened by `connected`."""

    def __init__(self, prefix: Prefix, files: Any) -> None:
        self.prefix, self._files = prefix, files

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Returns what a coroutine of requests returns.

        Raises:
            ArtefactError, ConfigError, ServiceError: as `tasks.sources.s3.errors` words what goes wrong.
        """
        with _worded(self.prefix, anonymous=self._files.anon):
            return _awaited(coroutine)

    async def call(self, method: str, **more: Any) -> dict[str, Any]:
        """Returns S3's answer to a request for the bucket."""
        return await self._files._call_s3(method, Bucket=self.prefix.bucket, **more)

    async def ask(self, method: str, name: str, one: Object, **more: str) -> dict[str, Any]:
        """Returns S3's answer about exactly this object: as it lies there if it is still the one, else its version,
        which not every right to read includes.

        Raises:
            ChangedError: there is no such object any more.
        """
        for version in dict.fromkeys((None, one.version)):
            pinned = {"VersionId": version} if version else {"IfMatch": f'"{one.etag}"'}
            try:
                answer = await self.call(method, Key=self.prefix.key + name, **pinned, **more)
            except OSError as error:
                if code(error) not in GONE:
                    raise
                continue
            if tag_of(answer) == one.etag:  # some servers overlook If-Match
                return answer
            if "Body" in answer:
                answer["Body"].close()
        raise ChangedError(
            f"{self.prefix.address}: {name} is no longer as it was listed, and the bucket keeps no version of it"
        )


@contextmanager
def connected(prefix: Prefix) -> Iterator[Connection]:
    """Yields a connection. Raises ConfigError where s3fs is not installed or AWS's settings cannot be used."""
    client = _client(prefix.address)
    with _worded(prefix, anonymous=False):
        files = _awaited(_opened(client))
    try:
        yield Connection(prefix, files)
    finally:
        _awaited(_close(files))


def _client(address: str) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise ConfigError(
            f"{address}: S3 needs the package s3fs, which is not installed; install psomerge[services]"
        ) from error
    return s3fs.S3FileSystem


async def _opened(client: Any) -> Any:
    files = client(asynchronous=True, skip_instance_cache=True)
    session = await files.set_session()
    if files.key is None and await files.session.get_credentials() is None:
        await session.close()
        files = client(asynchronous=True, skip_instance_cache=True, anon=True)
        await files.set_session()
    files.retries = 1  # botocore, below it, repeats already
    return files


async def _close(files: Any) -> None:
    await (await files.set_session()).close()


def _awaited(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on the client's own thread; Ctrl-C ends it there, too."""
    from fsspec.asyn import get_loop

    future = asyncio.run_coroutine_threadsafe(coroutine, get_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@contextmanager
def _worded(prefix: Prefix, *, anonymous: bool) -> Iterator[None]:
    try:
        with quiet(*_LOGGERS):
            yield
    except Exception as error:  # the client's errors and those of its HTTP library share no other base
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        # Without its cause: the client's texts hold the endpoint, a server's may hold the name of the key.
        raise translated(error, address=prefix.address, bucket=prefix.bucket, anonymous=anonymous) from None


def tag_of(answer: Mapping[str, Any]) -> str:
    """Returns the ETag of an answer or a listed object, without quotation marks."""
    return str(answer.get("ETag", "")).strip('"')
