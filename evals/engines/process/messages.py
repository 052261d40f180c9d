"""What crosses the pipe between supervisor and engine process: length-prefixed MessagePack of the records below. No
pickle; floats survive to the last bit, infinities and NaN included."""

import os
from typing import Any

import msgspec

from psomerge.evals.engines.engine import Answers, Batch, Capabilities, Continuation, EngineSettings

_PREFIX = 8


class Start(msgspec.Struct, tag=True, frozen=True):
    """The first message down."""

    engine: str
    """"vllm" or "transformers"."""
    folders: dict[str, str]
    """Of `base`, then of each expert by name."""
    settings: EngineSettings
    work: str
    """The process's temporary folder."""
    die_with_parent: bool
    """Whether the process ends with the thread that started it."""


class Put(msgspec.Struct, tag=True, frozen=True):
    """A batch under a name; is not answered."""

    name: str
    batch: Batch


class Judge(msgspec.Struct, tag=True, frozen=True):
    """A recipe, as plain data, to be answered on a batch."""

    recipe: dict[str, Any]
    name: str
    watch: tuple[int, ...] | None
    """After how many requests the parent wants to be asked; None: it does not watch."""


class GoOn(msgspec.Struct, tag=True, frozen=True):
    """What a watching parent says to a `Part`."""

    wanted: bool


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Answers `Start`."""

    capabilities: Capabilities


class Answered(msgspec.Struct, tag=True, frozen=True):
    """Answers `Judge`."""

    answers: Answers


class Part(msgspec.Struct, tag=True, frozen=True):
    """Answers of a judgement that is watched, beyond those of the parts before."""

    loglikelihood: tuple[Continuation, ...]
    generation: tuple[str, ...]

    @classmethod
    def of(cls, answers: Answers, before: Answers) -> "Part":
        """Returns what `answers` have beyond `before`, their beginning."""
        return cls(answers.loglikelihood[len(before.loglikelihood) :], answers.generation[len(before.generation) :])

    def after(self, before: Answers) -> Answers:
        """Returns `before` with this part behind it."""
        return Answers((*before.loglikelihood, *self.loglikelihood), (*before.generation, *self.generation))


class Refused(msgspec.Struct, tag=True, frozen=True):
    """Answers `Start` or `Judge` where that failed."""

    error: str
    kind: str
    """Class in `psomerge.errors`, or ModelError."""


Request = Start | Put | Judge | GoOn
Reply = Ready | Answered | Part | Refused
_DECODER = msgspec.msgpack.Decoder(Request | Reply)


def frame(message: Request | Reply) -> bytes:
    """Returns the bytes of one message: its length in 8 bytes, then MessagePack."""
    content = msgspec.msgpack.encode(message)
    return len(content).to_bytes(_PREFIX, "big") + content


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Any:
        """Returns the first complete message and forgets it; None while there is none."""
        end = _PREFIX + int.from_bytes(self._buffer[:_PREFIX], "big")
        if len(self._buffer) < max(end, _PREFIX):
            return None
        message = _DECODER.decode(self._buffer[_PREFIX:end])
        del self._buffer[:end]
        return message


def write(descriptor: int, message: Reply) -> None:
    """Writes a whole message to a blocking descriptor."""
    view = memoryview(frame(message))
    while view:
        view = view[os.write(descriptor, view) :]
