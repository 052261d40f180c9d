"""The engine behind a supervised child process: `SupervisedEngine` implements `evals.engines.engine.Judge`.

A death or a silence past the deadline ends the child's whole group, starts a new engine, hands the batches over again
and repeats the judgement.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from psomerge.errors import ArtefactError, ConfigError, EngineError
from psomerge.evals.engines.engine import Answers, Batch, Capabilities, EngineSettings, ModelError, Watch
from psomerge.evals.engines.process import leftovers, messages
from psomerge.evals.engines.process.child import Child, LostError
from psomerge.evals.engines.process.last_words import last_words
from psomerge.recipe import Recipe

_LEAST_DEADLINE = 60.0
_TAIL = 2**18
"""Bytes of a log's end in which an engine's last words are looked for."""


class SupervisedEngine:
    """One engine in one child process of ours, started when it is first needed."""

    def __init__(
        self, folders: Mapping[str, Path], engine: str, settings: EngineSettings, *, work: Path, log: Path
    ) -> None:
        """Removes what killed engines left in `work`; starts nothing.

        Args:
            folders: local folder of `base`, then of each expert by name in the recipe's order.
            engine: "vllm" or "transformers".
            settings: explicit and complete.
            work: folder for the child's temporary files and their records; made if missing.
            log: file that the child's output is added to.
        """
        work.mkdir(parents=True, exist_ok=True)
        for folder in leftovers.sweep(work):
            logging.getLogger(__name__).warning("removed %s, left by an engine that was killed", folder)
        self._folders, self._engine, self._settings, self._work, self._log = dict(folders), engine, settings, work, log
        self._batches: dict[str, Batch] = {}
        self._sent: set[str] = set()
        self._longest: dict[str, float] = {}
        self._child: Child | None = None
        self._begin = 0
        """Of what the child says, in the log."""
        self._capabilities: Capabilities | None = None
        self._lock = threading.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """The engine's own, asked from it once. Raises EngineError if it does not start."""
        with self._lock:
            if self._capabilities is None:
                self._repeat(lambda child: None)
            assert self._capabilities is not None
            return self._capabilities

    @property
    def pid(self) -> int | None:
        """Process number of the running engine, leader of its group."""
        return None if self._child is None else self._child.pid

    def put(self, name: str, batch: Batch) -> None:
        """Keeps a batch under a name; it goes down with the first judgement that needs it, once for each child."""
        self._batches[name] = batch
        self._longest.pop(name, None)
        self._sent.discard(name)

    def judge(self, recipe: Recipe, name: str, watch: Watch | None = None) -> Answers:
        """Returns the answers of the recipe's model to the named batch, or to its beginning if `watch` wants no more;
        it starts over with a new engine.

        Raises:
            ModelError: the model itself holds values that are not finite; another engine would say the same.
            EngineError: the engine died, hung or failed a check in every one of the allowed attempts.
            ArtefactError: a checkpoint or the recipe is broken.
            ConfigError: a request is longer than the engine takes.
        """
        with self._lock:
            answer = self._repeat(lambda child: self._judge(child, recipe, name, watch))
        assert isinstance(answer, messages.Answered), f"expected answers, found {answer}"
        return answer.answers

    def close(self) -> None:
        """Ends the child and its group and removes its folder."""
        if self._child is not None:
            self._child.end()
            self._child = None
            self._sent.clear()

    def _judge(self, child: Child, recipe: Recipe, name: str, watch: Watch | None) -> messages.Reply:
        requests: list[messages.Request] = []
        if name not in self._sent:
            requests.append(messages.Put(name, self._batches[name]))
        longest = self._longest.get(name)
        patience = (
            self._settings.deadline_s
            if longest is None
            else min(self._settings.deadline_s, max(_LEAST_DEADLINE, self._settings.patience * longest))
        )
        start = monotonic()
        stops = tuple(watch.start()) if watch else None
        answer, heard = child.ask([*requests, messages.Judge(recipe.to_dict(), name, stops)], patience), Answers()
        while watch and isinstance(answer, messages.Part):
            heard = answer.after(heard)
            answer = child.ask([messages.GoOn(watch.go_on(heard))], patience, start)
        self._longest[name] = max(longest or 0.0, monotonic() - start)
        self._sent.add(name)
        return answer

    def _repeat(self, ask: Callable[[Child], messages.Reply | None]) -> messages.Reply | None:
        """Returns what `ask` returns for a running child, on new ones where one is lost or fails its checks."""
        reason = words = ""
        for attempt in range(self._settings.restarts + 1):
            try:
                answer = ask(self._running())
                _refuse(answer)
                return answer
            except (ModelError, ArtefactError, ConfigError):
                raise
            except BaseException as error:
                # Interrupted, the child still owes an answer that would be taken for the next one's.
                pid = self.pid
                self.close()
                if not isinstance(error, LostError | EngineError):
                    raise
                words = last_words(self._said())
                reason = (
                    f"the {self._engine} engine (process {pid}) {error}" if isinstance(error, LostError) else str(error)
                )
                logging.getLogger(__name__).warning(
                    "%s; attempt %d of %d", reason, attempt + 1, self._settings.restarts + 1
                )
        raise EngineError(f"{reason}, {self._settings.restarts + 1} times; its last words: {words!r}; see {self._log}")

    def _said(self) -> str:
        """What the child has written to the log, at most the end of it."""
        with self._log.open("rb") as file:
            file.seek(max(self._begin, self._log.stat().st_size - _TAIL))
            return file.read().decode(errors="replace")

    def _running(self) -> Child:
        if self._child is None:
            self._begin = self._log.stat().st_size if self._log.exists() else 0
            self._child = Child(self._folders, self._engine, self._settings, work=self._work, log=self._log)
            answer = self._child.start(self._settings.start_deadline_s)
            if isinstance(answer, messages.Refused):
                self.close()
            _refuse(answer)
            assert isinstance(answer, messages.Ready), f"expected an engine that is ready, found {answer}"
            self._capabilities = answer.capabilities
        return self._child


def _refuse(answer: messages.Reply | None) -> None:
    """Raises the error that an answer reports."""
    if isinstance(answer, messages.Refused):
        kinds = {kind.__name__: kind for kind in (ArtefactError, ConfigError, ModelError)}
        raise kinds.get(answer.kind, EngineError)(answer.error)
