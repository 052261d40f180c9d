"""A tokenizer's chat template, rendered in a process of its own (`template_process`): a template is a program, and one
that loops or grows ends there."""

import json
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import IO, Any

from psomerge.errors import ArtefactError, nearest

COMPUTING = 5
"""Seconds of computing for one conversation; in use are milliseconds."""
SECONDS = 120.0
"""For one answer, however busy the machine: the process ends itself long before if it computes all the time."""
MAX_TEXT = 2**24
"""Bytes of one rendered conversation."""


class ChatTemplate:
    """A template and the process that renders it, started at the first conversation and ended with this object."""

    def __init__(self, template: str, tokens: Mapping[str, Any], where: str) -> None:
        """Keeps what `render` needs.

        Args:
            template: in Jinja.
            tokens: the special tokens by name, as the template may ask for them.
            where: the tokenizer's folder, for messages.
        """
        self._opening = {"template": template, "tokens": dict(tokens), "seconds": COMPUTING}
        self._where = where
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def writes_a_date(self) -> bool:
        """Whether the text may depend on the date."""
        return "strftime_now" in self._opening["template"]

    def render(
        self,
        history: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool,
        date: str | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> str | None:
        """Returns turns as one text; None where the template itself refuses them, e.g. for a role that it does not
        know.

        Args:
            history: turns with `role` and `content`.
            add_generation_prompt: whether the text ends where the answer begins, or goes on with the last turn.
            date: YYYY-MM-DD, which the template takes for today; None: it is today.
            arguments: what it is told beside, by name.

        Raises:
            ArtefactError: the template is broken, asks for what it may not have, takes too long or too much memory, or
                asks for none of these arguments.
        """
        if self._process is None:
            self._process = _start()
            weakref.finalize(self, _end, self._process)
            self._ask(self._process, self._opening)
        question = {"history": list(history), "add_generation_prompt": add_generation_prompt}
        answer = self._ask(self._process, question | {"date": date or today(), "arguments": dict(arguments)})
        if unknown := answer.get("unknown"):
            raise ArtefactError(
                f"{self._where}: its chat template asks for no {unknown[0]!r}, which `chat_template_args` "
                f"sets{nearest(unknown[0], unknown[1])}"
            )
        if "fault" in answer:
            raise ArtefactError(
                f"{self._where}: its chat template cannot be rendered: {answer['fault']}; correct the template"
            )
        return answer["text"]

    def _ask(self, process: "subprocess.Popen[bytes]", question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            stdin = _opened(process.stdin)
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
            return json.loads(_line(_opened(process.stdout), SECONDS))
        except (BrokenPipeError, TimeoutError, EOFError) as error:
            _end(process)
            self._process = None
            limits = f"it takes more than {COMPUTING} s of computing for one conversation"
            reason = limits if process.returncode == -signal.SIGXCPU else str(error) or "its process ended"
            raise ArtefactError(
                f"{self._where}: its chat template cannot be rendered: {reason}; correct the template"
            ) from error


def today() -> str:
    """Returns the date of this machine, YYYY-MM-DD."""
    return datetime.now().strftime("%Y-%m-%d")


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("expected a pipe to the process that renders chat templates")
    return pipe


def _start() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "psomerge.evals.harness.template_process"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(0.1)  # one that has ended keeps the reason
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _opened(process.stdin).close()
    _opened(process.stdout).close()


def _line(pipe: IO[bytes], seconds: float) -> bytes:
    """Returns one line. Raises EOFError where the pipe ends, TimeoutError where the line does not come in time or is
    longer than MAX_TEXT."""
    deadline = time.monotonic() + seconds
    read = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not read.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"it takes more than {seconds:.0f} s for one conversation")
            if not (part := pipe.read(2**16)):
                raise EOFError
            read += part
            if len(read) > MAX_TEXT:
                raise TimeoutError(f"it makes more than {MAX_TEXT} bytes of one conversation")
    return bytes(read)
