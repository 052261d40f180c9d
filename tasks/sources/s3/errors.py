"""What S3's client raises, in one line that says what to do. Quotes no address, header or text of the client or the
server: keys may stand in them."""

from typing import Any

from psomerge.errors import ArtefactError, ConfigError, PsomergeError, ServiceError


class BrokenError(Exception):
    """A body that ended too early, or is not the part that was asked for."""


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_REFUSED = "S3 refuses access; the credentials need the rights s3:ListBucket and s3:GetObject there"
_UNKNOWN = f"S3 does not accept the credentials; {_CREDENTIALS}"
_EXPIRED = "the credentials have expired; renew them, then run the same command again"
_REGION = "the bucket lies in another region; set AWS_DEFAULT_REGION to it"
_LATER = "S3 asks to come back later; wait, then run the same command again, it goes on from here"
_ANSWERS = {
    "AccessDenied": _REFUSED,
    "AllAccessDisabled": _REFUSED,
    "403": _REFUSED,
    "InvalidAccessKeyId": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "InvalidToken": _UNKNOWN,
    "401": _UNKNOWN,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": "S3 finds this machine's clock wrong; set it",
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "307": _REGION,
    "InvalidObjectState": "a file is archived; restore it in the bucket first",
    "SlowDown": _LATER,
    "ServiceUnavailable": _LATER,
    "503": _LATER,
    "429": _LATER,
}
GONE = ("404", "NoSuchKey", "NoSuchVersion", "412", "PreconditionFailed")
"""What S3 answers where an object is not, or is another than asked for."""


def code(error: BaseException) -> str:
    """Returns S3's own name of what went wrong, or the HTTP status where it sent no body; empty for what is no answer
    of S3's."""
    answer: Any = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def worthless(error: BaseException) -> bool:
    """Returns whether what came before the error is wrong, by a checksum that the server sent along."""
    from botocore.exceptions import FlexibleChecksumError

    return isinstance(error, FlexibleChecksumError)


def may_pass(error: BaseException) -> bool:
    """Returns whether the rest of a body may come if it is asked for again a little later."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    broken = BrokenError | HTTPClientError | IncompleteReadError
    return (
        isinstance(error, broken)
        or worthless(error)
        or code(error) in ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "503")
    )


def translated(error: BaseException, *, address: str, bucket: str, anonymous: bool) -> PsomergeError:
    """Returns the error to raise instead of the client's.

    Args:
        error: as caught.
        address: of the model, as the user gave it.
        bucket: its name.
        anonymous: whether there are no credentials.
    """
    from botocore import exceptions

    if isinstance(error, PsomergeError):
        return error
    answer = code(error)
    if answer == "NoSuchBucket":
        return ArtefactError(f"{address}: there is no bucket {bucket!r}; check the name and AWS_ENDPOINT_URL")
    if anonymous and _ANSWERS.get(answer) in (_REFUSED, _UNKNOWN):
        return ServiceError(f"{address}: S3 refuses access without credentials; {_CREDENTIALS}")
    if answer:
        return ServiceError(
            f"{address}: "
            f"{_ANSWERS.get(answer, f'S3 answers with {_plain(answer)}; try again later, or check the address')}"
        )
    if isinstance(error, exceptions.ProfileNotFound):
        return ConfigError(
            f"{address}: AWS_PROFILE names a profile that AWS's configuration files do not have; correct or unset it"
        )
    if isinstance(error, exceptions.PartialCredentialsError):
        return ConfigError(f"{address}: the credentials are incomplete; {_CREDENTIALS}")
    if isinstance(
        error, exceptions.CredentialRetrievalError | exceptions.NoAuthTokenError | exceptions.TokenRetrievalError
    ):
        return ServiceError(
            f"{address}: the credentials could not be had ({type(error).__name__}); sign in anew, or {_CREDENTIALS}"
        )
    if may_pass(error) or isinstance(error, exceptions.ConnectionError):
        return ServiceError(
            f"{address}: S3 cannot be reached or broke off ({type(error).__name__}); "
            "check the network and AWS_ENDPOINT_URL, then run the same command again, it goes on from here"
        )
    if isinstance(error, ValueError | exceptions.BotoCoreError) and not isinstance(error, exceptions.PaginationError):
        settings = "AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and AWS's configuration files"
        return ConfigError(f"{address}: the settings for S3 cannot be used ({type(error).__name__}); check {settings}")
    return ServiceError(f"{address}: S3 does not answer as S3 does ({type(error).__name__}); check AWS_ENDPOINT_URL")


def _plain(answer: str) -> str:
    return answer if answer.isalnum() and len(answer) < 60 else "an error that it has no plain name for"
