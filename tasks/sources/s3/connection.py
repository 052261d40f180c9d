"""The connection to S3, or to what speaks its protocol at AWS_ENDPOINT_URL, through boto3. Nothing else opens one.

Credentials, profile, region and endpoint are found by the client itself, in the environment and in AWS's own files;
they are neither read nor passed on here, and no message quotes the client's. Where there are no credentials, requests
are anonymous. The client repeats requests (AWS_MAX_ATTEMPTS), and asks more slowly where S3 asks for that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.tasks.quiet import quiet
from psomerge.tasks.sources.s3.errors import GONE, code, translated

WORKERS = 8
"""Requests at a time."""
_LOGGERS = ("boto3", "botocore", "urllib3")


@dataclass(frozen=True)
class Location:
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


@dataclass(frozen=True)
class Connection:
    """Requests about one prefix, from any thread; opened by `connected`."""

    prefix: Location
    client: Any
    """boto3's for S3."""
    anonymous: bool
    """Whether there are no credentials."""

    @contextmanager
    def worded(self) -> Iterator[None]:
        """Makes of what goes wrong with requests in the block what `tasks.sources.s3.errors` says of it.

        Raises:
            ArtefactError, ConfigError, ServiceError: instead of the client's errors.
        """
        with _worded(self.prefix, anonymous=self.anonymous):
            yield

    def ask(self, method: str, name: str, one: Object, **more: str) -> dict[str, Any]:
        """Returns S3's answer about exactly this object: as it lies there if it is still the one, else its version,
        which not every right to read includes.

        Raises:
            ArtefactError: there is no such object any more.
        """
        from botocore.exceptions import ClientError

        place = {"Bucket": self.prefix.bucket, "Key": self.prefix.key + name}
        for version in dict.fromkeys((None, one.version)):
            pinned = {"VersionId": version} if version else {"IfMatch": f'"{one.etag}"'}
            try:
                answer = getattr(self.client, method)(**place, **pinned, **more)
            except ClientError as error:
                if code(error) not in GONE:
                    raise
                continue
            if tag_of(answer) == one.etag:  # some servers overlook If-Match
                return answer
            if "Body" in answer:
                answer["Body"].close()
        raise ArtefactError(
            f"{self.prefix.address}: {name} is no longer as it was listed, and the bucket keeps no version of it; "
            "restore it, or take what is there when nobody writes: the prefix without a revision"
        )


@contextmanager
def connected(prefix: Location) -> Iterator[Connection]:
    """Yields a connection. Raises ConfigError where boto3 is not installed or AWS's settings cannot be used."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError as error:
        raise ConfigError(
            f"{prefix.address}: S3 needs the package boto3, which is not installed; install psomerge[services]"
        ) from error
    with _worded(prefix, anonymous=False):
        session = boto3.Session()
        anonymous = session.get_credentials() is None
        config = Config(
            signature_version=UNSIGNED if anonymous else None,
            retries={"mode": "adaptive"},
            connect_timeout=5,
            read_timeout=15,
            max_pool_connections=WORKERS,
        )
        client = session.client("s3", config=config)
    try:
        yield Connection(prefix, client, anonymous)
    finally:
        client.close()


@contextmanager
def _worded(prefix: Location, *, anonymous: bool) -> Iterator[None]:
    try:
        with quiet(*_LOGGERS):
            yield
    except Exception as error:  # the client's errors share no other base
        # Without its cause: the client's texts hold the endpoint, a server's may hold the name of the key.
        raise translated(error, address=prefix.address, bucket=prefix.bucket, anonymous=anonymous) from None


def tag_of(answer: Mapping[str, Any]) -> str:
    """Returns the ETag of an answer or a listed object, without quotation marks."""
    return str(answer.get("ETag", "")).strip('"')
