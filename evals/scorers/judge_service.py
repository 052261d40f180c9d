"""The connection to an OpenAI-compatible server: chat messages in, the text of the reply out; what fails becomes one
line.

The key comes from the environment alone and goes into the request's header alone.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from psomerge.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

KEY = "PSOMERGE_JUDGE_API_KEY"
OPENAI_KEY = "OPENAI_API_KEY"
OPENAI_HOST = "api.openai.com"


class RefusedError(Exception):
    """The server takes no such request, e.g. as it is too long: this one's failure, not the service's."""


@dataclass(frozen=True)
class JudgeService:
    """One model at one address."""

    address: str
    """Base URL of the API, such as http://127.0.0.1:8000/v1."""
    model: str
    settings: Mapping[str, Any]
    """Of every request: temperature, seed, longest reply."""
    timeout: float
    """Of one request, in seconds."""
    retries: int
    """Further attempts after a lost connection, a timeout, a 429 or a 5xx, with growing pauses."""

    def __post_init__(self) -> None:
        if set("@?") & set(self.address):  # before anything that would print it
            raise ConfigError(
                "judge: the address must hold no user, password or query; put the key into the environment variable "
                f"{KEY}"
            )
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"judge: expected an address such as http://127.0.0.1:8000/v1, found {self.address!r}")

    def client(self) -> "OpenAI":
        """Returns a client to be used as a context; it may be shared by threads."""
        from openai import OpenAI

        # Without a key of its own the client would take OPENAI_API_KEY and send it to whatever address a suite names.
        key = os.environ.get(KEY) or (
            os.environ.get(OPENAI_KEY) if urlsplit(self.address).hostname == OPENAI_HOST else None
        )
        return OpenAI(base_url=self.address, api_key=key or "none", timeout=self.timeout, max_retries=self.retries)

    def ask(self, client: "OpenAI", messages: Sequence[Mapping[str, str]]) -> str:
        """Returns the text of the reply; empty if the server sends none, or if it was cut off.

        Raises:
            ServiceError: the server cannot be reached, does not know key or model, or still fails after all attempts.
            RefusedError: it takes no such request.
        """
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        try:
            completion = client.chat.completions.create(model=self.model, messages=list(messages), **self.settings)  # pyright: ignore[reportCallIssue, reportArgumentType]
            choice = completion.choices[0]
            return "" if choice.finish_reason == "length" else choice.message.content or ""
        except APITimeoutError as error:
            raise ServiceError(
                f"judge: no reply from {self.address} within {self.timeout:g} s; raise `timeout`, or look at the server"
            ) from error
        except APIConnectionError as error:
            raise ServiceError(
                f"judge: cannot reach {self.address} ({_cause(error)}); start the server, or mend the address"
            ) from error
        except APIStatusError as error:
            raise self._status(error) from error
        except (APIError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise ServiceError(
                f"judge: {self.address} does not answer like an OpenAI-compatible server ({type(error).__name__}); "
                "mend the address"
            ) from error

    def _status(self, error: "APIStatusError") -> Exception:
        status = error.status_code
        where = f"judge: {self.address} answers {status}"
        if status in (401, 403):
            return ServiceError(f"{where}: it does not take the key; set the environment variable {KEY}")
        if status == 404:
            return ServiceError(
                f"{where}: no model {self.model!r}, or no chat completions at this address (it usually ends in /v1)"
            )
        if status in (400, 413, 422):
            return RefusedError(f"{where}: {_said(error)}")
        what = "too many requests; lower `concurrency`" if status == 429 else _said(error)
        return ServiceError(
            f"{where} after {self.retries + 1} attempts: {what}; start the same command again later, it goes on "
            "where it was"
        )


def _said(error: "APIStatusError") -> str:
    """What the server says, without any key that it repeats."""
    body = error.body
    text = str(body.get("message", "")) if isinstance(body, dict) else str(body or "")
    for name in (KEY, OPENAI_KEY):
        if secret := os.environ.get(name):
            text = text.replace(secret, "***")
    return " ".join(text.split())[:200] or "no reason given"


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__
