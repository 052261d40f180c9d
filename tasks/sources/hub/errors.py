"""What the hub's client raises, in one line that says what to do, and whether a repetition may help. Quotes no address,
header or text of the client."""

import errno
import os

from psomerge.errors import ArtefactError, PsomergeError, ServiceError, SpaceError
from psomerge.tasks.secrets import redact


class MissingError(Exception):
    """The hub's answer ended well without all of a file."""


def endpoint() -> str:
    """Returns the hub's address as the environment has it, without password."""
    return redact(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


_ANSWERS = {
    401: "does not accept the token; set HF_TOKEN to a valid one, or unset it for a public model",
    403: "refuses access; set HF_TOKEN to a token that may read this model",
    404: "has nothing there (status 404); check the address and HF_ENDPOINT",
    429: "asks to come back later (status 429); wait, or set HF_TOKEN, then run the same command again",
}


def may_pass(error: BaseException) -> bool:
    """Returns whether the same call may succeed a little later."""
    import httpx2

    error = _root(error)
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
        return False
    came_short = isinstance(error, OSError) and "Consistency check failed" in str(error)
    return (
        isinstance(error, httpx2.TransportError | MissingError)
        or came_short
        or _status(error) in (408, 429)
        or _status(error) >= 500
    )


def translated(error: BaseException, *, address: str, name: str) -> PsomergeError:
    """Returns the error to raise instead of the client's.

    Args:
        error: as caught.
        address: of the model, as the user gave it.
        name: ORG/NAME.
    """
    import httpx2
    from huggingface_hub import errors

    error, hub = _root(error), endpoint()  # the order matters: the client's classes are each other's subclasses
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ServiceError(
            f"{address} is not here yet and HF_HUB_OFFLINE forbids to fetch it; unset that once, or name a local folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return ServiceError(
            f"{address} is gated: accept its terms at {hub}/{name}, then set HF_TOKEN to a token of that account"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ArtefactError(f"{address}: the repository has no such revision at {hub}; check branch, tag or commit")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ArtefactError(
            f"{address}: no such model at {hub}, or a private one; check the name, or set HF_TOKEN to a token that "
            "may read it"
        )
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return ArtefactError(f"{address}: {hub} lists a file that it does not have; name another revision")
    if status := _status(error):
        return ServiceError(
            f"{address}: {hub} {_ANSWERS.get(status, f'answers with status {status}; try again later')}"
        )
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ):
        where = f" at {error.filename}" if error.filename else ""
        return SpaceError(
            f"{address}: cannot be written{where}: {error.strerror}; make room or correct its rights, then run the "
            "same command again"
        )
    if isinstance(error, MissingError):
        return ServiceError(
            f"{address}: {hub} did not deliver {error}; run the same command again, it goes on from here"
        )
    if isinstance(error, httpx2.HTTPError | OSError):
        return ServiceError(
            f"{address}: {hub} {_broken(error)}; check the network and HF_ENDPOINT, then run the same command again, "
            "it goes on from here"
        )
    return ServiceError(f"{address}: {hub} does not answer as a hub does ({type(error).__name__}); check HF_ENDPOINT")


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return int(getattr(response, "status_code", 0) or 0)


def _root(error: BaseException) -> BaseException:
    """What the client wraps when it finds nothing in its cache either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    while isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _broken(error: BaseException) -> str:
    if "Consistency check failed" in str(error):
        return "sent a file that is too short or too long"
    return f"cannot be reached or broke off ({type(error).__name__})"
