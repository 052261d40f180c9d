"""What crosses the pipe between supervisor and engine process: length-prefixed JSON. No pickle; floats survive to the
last bit."""

import json
import os
from typing import Any

from psomerge.evals.engines.engine import Answers, Batch, Continuation, Generation, Loglikelihood

_PREFIX = 8


def frame(message: dict[str, Any]) -> bytes:
    """Returns the bytes of one message: its length in 8 bytes, then JSON."""
    content = json.dumps(message, separators=(",", ":")).encode()
    return len(content).to_bytes(_PREFIX, "big") + content


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> dict[str, Any] | None:
        """Returns the first complete message and forgets it; None while there is none."""
        if len(self._buffer) < _PREFIX:
            return None
        end = _PREFIX + int.from_bytes(self._buffer[:_PREFIX], "big")
        if len(self._buffer) < end:
            return None
        message = json.loads(self._buffer[_PREFIX:end])
        del self._buffer[:end]
        return message


def write(descriptor: int, message: dict[str, Any]) -> None:
    """Writes a whole message to a blocking descriptor."""
    view = memoryview(frame(message))
    while view:
        view = view[os.write(descriptor, view) :]


def batch_from_dict(content: dict[str, Any]) -> Batch:
    """Returns the batch whose `asdict` went through JSON."""
    return Batch(
        tuple(Loglikelihood(tuple(item["context"]), tuple(item["continuation"])) for item in content["loglikelihood"]),
        tuple(
            Generation(tuple(item["prompt"]), tuple(item["stop"]), item["max_tokens"]) for item in content["generation"]
        ),
    )


def answers_from_dict(content: dict[str, Any]) -> Answers:
    """Returns the answers whose `asdict` went through JSON."""
    return Answers(
        **content
        | {
            "loglikelihood": tuple(Continuation(**item) for item in content["loglikelihood"]),
            "generation": tuple(content["generation"]),
        }
    )


def part_to_dict(answers: Answers, before: Answers) -> dict[str, Any]:
    """Returns what `answers` have beyond `before`, their beginning."""
    scored = answers.loglikelihood[len(before.loglikelihood) :]
    return {
        "loglikelihood": [[one.logprob, one.greedy] for one in scored],
        "generation": answers.generation[len(before.generation) :],
    }


def part_from_dict(content: dict[str, Any], before: Answers) -> Answers:
    """Returns `before` with the part after it."""
    scored = (Continuation(*item) for item in content["loglikelihood"])
    return Answers((*before.loglikelihood, *scored), (*before.generation, *content["generation"]))
