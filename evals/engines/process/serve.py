"""The engine's own process: `python -m psomerge.evals.engines.process.serve REQUESTS ANSWERS`, both descriptors of
pipes. `evals.engines.process.supervisor` starts it.

Reads `Start`, then `Put` and `Judge` messages; answers `Start` and `Judge`. A judgement that is watched sends parts of
its answers before, each to be met by a `GoOn`. Ends with its parent, whatever happens to that: at end-of-file of its
pipe, even in the middle of a batch.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter

from psomerge.errors import PsomergeError
from psomerge.evals.engines.engine import Answers, Batch, Engine, EngineSettings, Watch
from psomerge.evals.engines.host import peak_bytes
from psomerge.evals.engines.process import messages
from psomerge.recipe import Recipe, from_dict


def main(requests: int, answers: int) -> None:
    """Serves until end-of-file on descriptor `requests`."""
    inbox: SimpleQueue[messages.Request] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    start = inbox.get()
    assert isinstance(start, messages.Start), f"expected a Start, found {start}"
    if start.die_with_parent:
        # Fires when the parent's creating thread ends, so it is asked for by the main thread only; ends a stopped
        # process too.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    try:
        engine = _open(
            start.engine, {name: Path(at) for name, at in start.folders.items()}, start.settings, Path(start.work)
        )
    except PsomergeError as error:
        messages.write(answers, messages.Refused(str(error), type(error).__name__))
        return
    messages.write(answers, messages.Ready(engine.capabilities))
    batches: dict[str, Batch] = {}
    holder = Holder(engine)
    while True:
        message = inbox.get()
        if isinstance(message, messages.Put):
            batches[message.name] = message.batch
            continue
        assert isinstance(message, messages.Judge), f"expected a Put or a Judge, found {message}"
        watch = None if message.watch is None else Parent(message.watch, inbox, answers)
        try:
            reply = messages.Answered(holder.judge(from_dict(message.recipe), batches[message.name], watch))
        except PsomergeError as error:
            reply = messages.Refused(str(error), type(error).__name__)
        messages.write(answers, reply)


class Holder:
    """An engine, and the recipe whose model it holds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: Recipe | None = None

    def judge(self, recipe: Recipe, batch: Batch, watch: Watch | None = None) -> Answers:
        """Answers the batch, or as much of it as is wanted, with the recipe's model; a model that is there already,
        from another batch, is not loaded again.

        Raises:
            EngineError: a check of the swap fails.
        """
        seconds: dict[str, float] = {}
        if recipe != self._held:
            self._held = None
            seconds = self._engine.load(recipe)
            self._held = recipe
        start = perf_counter()
        return replace(
            self._engine.answer(batch, watch),
            seconds=seconds | {"score": perf_counter() - start},
            peak_bytes=peak_bytes(),
        )


class Parent:
    """The `Watch` at the other end of the pipe. The engine waits for what it says: to score a part takes 0.06 ms an
    item, and to go on meanwhile would cost every judgement that is stopped a part or a step of the engine, which on a
    short batch is most of what there is to save."""

    def __init__(self, stops: Sequence[int], inbox: SimpleQueue[messages.Request], answers: int) -> None:
        self._stops, self._inbox, self._answers = stops, inbox, answers
        self._sent = Answers()

    def start(self) -> Sequence[int]:
        return self._stops

    def go_on(self, answers: Answers) -> bool:
        messages.write(self._answers, messages.Part.of(answers, self._sent))
        self._sent = answers
        said = self._inbox.get()
        assert isinstance(said, messages.GoOn), f"expected a GoOn, found {said}"
        return said.wanted


def _read(descriptor: int, inbox: SimpleQueue[messages.Request]) -> None:
    frames = messages.Frames()
    while data := os.read(descriptor, 1 << 20):
        frames.add(data)
        while (message := frames.next()) is not None:
            inbox.put(message)
    os._exit(0)  # the main thread may be deep in a batch that nobody waits for any more


def _open(name: str, folders: Mapping[str, Path], settings: EngineSettings, work: Path) -> Engine:
    if name == "vllm":
        from psomerge.evals.engines.vllm.engine import VllmEngine

        return VllmEngine(folders, settings, work)
    from psomerge.evals.engines.transformers_engine import TransformersEngine

    return TransformersEngine(folders, settings)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
