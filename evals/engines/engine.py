"""What judges a model: the `Engine` protocol, its settings, requests and answers.

Requests are token ids, made once per run by `evals.harness`; an engine knows no benchmark and no metric.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from psomerge.errors import EngineError
from psomerge.recipe import Recipe


class ModelError(EngineError):
    """The model itself is at fault, not the engine: it holds a value that is not finite. Another engine would say the
    same."""


@dataclass(frozen=True)
class Loglikelihood:
    """Asks for log p(continuation | context). Both hold token ids; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Generation:
    """Asks for a greedy continuation of `prompt` (token ids), ended by a stop string, end of text, or `max_tokens`."""

    prompt: tuple[int, ...]
    stop: tuple[str, ...]
    max_tokens: int
    special: bool = False
    """Whether special tokens are written in the answer, too."""


@dataclass(frozen=True)
class Continuation:
    """Answer to a Loglikelihood: sum of natural-log probabilities (<= 0), and whether greedy decoding would give it."""

    logprob: float
    greedy: bool


@dataclass(frozen=True)
class Capabilities:
    """What identifies an engine in a run key: any change of these may change the bits of a score."""

    name: str
    version: str
    device: str
    """Device model, as the system names it."""
    dtype: str
    """That the engine computes in."""
    threads: int
    exact: bool
    """Whether equal requests in equal order have equal bits (on CPU: yes)."""


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is started. Threads, dtype and the two batch sizes may change the bits of a score."""

    dtype: str = "auto"
    """That the engine computes in: `auto` is float32 on a CPU and the checkpoint's own on a GPU; or float32, bfloat16,
    float16."""
    threads: int = 1
    """OpenMP threads. On a machine with other busy processes two threads of a tiny model wait for each other: up to 30
    times slower than one."""
    max_model_len: int = 2048
    """Longest prompt with its answer, in tokens; the model's own limit if that is smaller."""
    max_num_seqs: int = 256
    """Requests computed side by side."""
    max_num_batched_tokens: int = 8192
    """Tokens computed in one step."""
    kv_cache_bytes: int = 2**30
    seed: int = 0
    tokenizer_from: str = "base"
    """Name of the folder whose tokenizer and generation config the engine uses."""
    start_deadline_s: float = 300.0
    """For an engine to start."""
    deadline_s: float = 3600.0
    """For the first judgement of a batch; later ones get `patience` times the longest so far, at least a minute, at
    most this."""
    patience: float = 20.0
    restarts: int = 2
    """New engines tried for one judgement after a death or a hang."""


@dataclass(frozen=True)
class Batch:
    """All requests of one evaluation set, in the order that every judgement keeps."""

    loglikelihood: tuple[Loglikelihood, ...] = ()
    generation: tuple[Generation, ...] = ()

    def __len__(self) -> int:
        """The number of requests."""
        return len(self.loglikelihood) + len(self.generation)

    @property
    def tokens(self) -> int:
        """Of all requests, with the most that may be written."""
        read = sum(len(one.context) + len(one.continuation) for one in self.loglikelihood)
        return read + sum(len(one.prompt) + one.max_tokens for one in self.generation)


@dataclass(frozen=True)
class Answers:
    """An engine's answers to one Batch, in its order, and the seconds spent by phase (score, and merge, load, reset,
    canary if its model was not there yet)."""

    loglikelihood: tuple[Continuation, ...] = ()
    generation: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    """Peak resident memory of the engine's process so far."""
    tokens: int = 0
    """That the engine computed: those of prompts that no cache had, and generated ones; an upper bound for requests
    under way when it was stopped."""


class Watch(Protocol):
    """Hears a judgement's answers as they come, and may end it. What it says changes no bit of the answers before."""

    def start(self) -> Sequence[int]:
        """Returns after how many requests of the batch (log-likelihoods, then generations), ascending, it wants to be
        asked. A judgement may start over."""
        ...

    def go_on(self, answers: Answers) -> bool:
        """Returns whether the rest is wanted; `answers` are those to the first requests, without a gap."""
        ...


def first_part(text: str, stop: Sequence[str]) -> str:
    """Returns `text` up to the first place where one of the stop strings begins; empty stop strings count for
    nothing."""
    return text[: min((text.index(end) for end in stop if end and end in text), default=len(text))]


class Engine(Protocol):
    """Holds one model at a time, made from a recipe, and answers requests about it."""

    @property
    def capabilities(self) -> Capabilities: ...

    def load(self, recipe: Recipe) -> dict[str, float]:
        """Replaces the model by the recipe's, checks the swap, returns seconds by phase. Raises EngineError if a check
        fails."""
        ...

    def loglikelihood(self, requests: Sequence[Loglikelihood]) -> list[Continuation]: ...

    def generate(self, requests: Sequence[Generation]) -> list[str]: ...

    def answer(self, batch: Batch, watch: Watch | None = None) -> Answers:
        """Returns the answers to a batch; once `watch` wants no more, those to its first requests. The schedule is one,
        watched or not."""
        ...

    def close(self) -> None: ...


class Judge(Protocol):
    """What the pipeline talks to: prompts go down once, then a recipe down and answers up for each particle."""

    @property
    def capabilities(self) -> Capabilities: ...

    def put(self, name: str, batch: Batch) -> None:
        """Hands over an evaluation set under a name."""
        ...

    def judge(self, recipe: Recipe, name: str, watch: Watch | None = None) -> Answers:
        """Loads the recipe's model and answers the named batch, or its beginning as `Engine.answer`. Raises EngineError
        once repeating has not helped."""
        ...

    def close(self) -> None: ...
