"""Log-likelihoods of continuations with few and small requests.

vLLM's cost for short prompts is per request and per row of logits. So, of one context:
- the first tokens of all its continuations come from one request (`logprob_token_ids`), wherever a continuation has one token only, or the
  context fills a block of the prefix cache, which the following requests then read;
- the other tokens come from the prompt's own rows, context and continuation in one prefill, one request for each different continuation.
Rows below `num_cached_tokens` are uninitialised memory and are never read: a request that lost rows it needs is sent again past the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

from evals.engine import Continuation, Loglikelihood
from psomerge.errors import EngineError

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.logprobs import FlatLogprobs

Tokens = tuple[int, ...]
MOST_IDS = 128
"""Token ids that vLLM scores in one request."""


@dataclass(frozen=True)
class Source:
    """Where the answer to one Loglikelihood comes from."""

    first: int | None
    """Request whose sampled position scores the first token; None: the prompt rows of `rest` have it too."""
    rest: int | None
    """Request whose prompt rows score the other tokens; None: there is only one token."""
    context: int
    """Length of the context in tokens."""
    continuation: Tokens


@dataclass(frozen=True)
class Plan:
    """The requests that answer a batch, in the order in which every judgement sends them."""

    prompts: tuple[Tokens, ...]
    ids: tuple[Tokens, ...]
    """Tokens to score after each prompt; empty: the prompt's own rows are wanted."""
    sources: tuple[Source, ...]


def plan(requests: Sequence[Loglikelihood], block: int) -> Plan:
    """Returns the fewest requests that answer `requests`, those of one context side by side.

    Args:
        requests: any number, repeated ones are computed once.
        block: tokens in a block of the prefix cache.
    """
    groups: dict[Tokens, dict[Tokens, None]] = {}
    for request in requests:
        groups.setdefault(request.context, {})[request.continuation] = None
    prompts: list[Tokens] = []
    ids: list[Tokens] = []
    sources: dict[tuple[Tokens, Tokens], Source] = {}
    for context, continuations in groups.items():
        shared = len(context) >= block or any(len(continuation) == 1 for continuation in continuations)
        firsts = list(dict.fromkeys(continuation[0] for continuation in continuations)) if shared else []
        asked: dict[int, int] = {}
        for begin in range(0, len(firsts), MOST_IDS):
            part = tuple(firsts[begin : begin + MOST_IDS])
            asked |= dict.fromkeys(part, len(prompts))
            prompts.append(context)
            ids.append(part)
        for continuation in continuations:
            first, rest = asked.get(continuation[0]), None
            if len(continuation) > 1 or not shared:
                rest = len(prompts)
                prompts.append(context + continuation)
                ids.append(())
            sources[context, continuation] = Source(first, rest, len(context), continuation)
    return Plan(tuple(prompts), tuple(ids), tuple(sources[request.context, request.continuation] for request in requests))


def score(llm: "LLM", planned: Plan) -> list[Continuation]:
    """Returns the answers to the planned batch, in its order. Sampling parameters are safe to share: vLLM copies them for each request."""
    from vllm import SamplingParams

    common: dict[str, Any] = {"temperature": 0.0, "max_tokens": 1, "detokenize": False, "flat_logprobs": True, "skip_clone": True}
    rows = SamplingParams(prompt_logprobs=0, skip_reading_prefix_cache=False, **common)
    parameters = [SamplingParams(logprob_token_ids=list(wanted), **common) if wanted else rows for wanted in planned.ids]
    outputs = llm.generate([{"prompt_token_ids": list(prompt)} for prompt in planned.prompts], parameters, use_tqdm=False)
    lost = sorted({rest for source in planned.sources if (rest := source.rest) is not None and _lost(outputs[rest], source)})
    if lost:
        uncached = SamplingParams(prompt_logprobs=0, skip_reading_prefix_cache=True, **common)
        again = llm.generate([{"prompt_token_ids": list(planned.prompts[number])} for number in lost], uncached, use_tqdm=False)
        for number, output in zip(lost, again, strict=True):
            outputs[number] = output
    return [_answer(source, outputs) for source in planned.sources]


def flat(logprobs: object) -> "FlatLogprobs":
    """Returns the log-probabilities of an output of a request with `flat_logprobs`.

    Raises:
        EngineError: the output has none.
    """
    from vllm.logprobs import FlatLogprobs

    if not isinstance(logprobs, FlatLogprobs):
        raise EngineError(f"expected log-probabilities from vLLM, found {type(logprobs).__name__}: is this version of it supported?")
    return logprobs


def _lost(output: "RequestOutput", source: Source) -> bool:
    """Whether the prefix cache swallowed a row that the source needs: row i is computed at position i - 1."""
    needed = source.context + (source.first is not None)
    return (output.num_cached_tokens or 0) >= needed


def _answer(source: Source, outputs: "Sequence[RequestOutput]") -> Continuation:
    logprobs: list[float] = []
    greedy = True
    if source.first is not None:
        sample = outputs[source.first].outputs[0]
        asked = flat(sample.logprobs)
        logprobs.append(asked.logprobs[asked.token_ids.index(source.continuation[0])])
        greedy = sample.token_ids[0] == source.continuation[0]
    if source.rest is not None:
        rows = flat(outputs[source.rest].prompt_logprobs)
        starts = rows.start_indices[source.context + len(logprobs) :]
        logprobs += [rows.logprobs[start] for start in starts]
        greedy = greedy and all(rows.ranks[start] == 1 for start in starts)
    return Continuation(fsum(logprobs), greedy)
