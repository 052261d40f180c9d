"""Log-likelihoods of continuations with few and small requests.

vLLM's cost for short prompts is per request and per row of logits. So, of one context:
- the first tokens of all its continuations come from one request (`logprob_token_ids`), wherever a continuation has one
  token only, or the context fills a block of the prefix cache, which the following requests then read;
- the other tokens come from the prompt's own rows, context and continuation in one prefill, one request for each
  different continuation.
Rows below `num_cached_tokens` are uninitialised memory and are never read: a request whose rows an earlier one leaves
in the cache goes past it. One that lost rows all the same is sent again; the answers after it then wait until the end
of the queue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Continuation, Loglikelihood
from psomerge.evals.engines.prefix import Prefix
from psomerge.evals.engines.vllm.running import Running, Tokens

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput
    from vllm.logprobs import FlatLogprobs

MOST_IDS = 128
"""Token ids that vLLM scores in one request."""


@dataclass(frozen=True)
class AnswerSource:
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
    sources: tuple[AnswerSource, ...]
    uncached: frozenset[int]
    """Requests that must not read the prefix cache: an earlier one shares whole blocks with them beyond the first row
    that they need."""

    def readers(self) -> list[list[int]]:
        """Returns for each request the places in `sources` that read it."""
        found: list[list[int]] = [[] for _ in self.prompts]
        for place, source in enumerate(self.sources):
            for number in (source.first, source.rest):
                if number is not None:
                    found[number].append(place)
        return found


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
    sources: dict[tuple[Tokens, Tokens], AnswerSource] = {}
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
            sources[context, continuation] = AnswerSource(first, rest, len(context), continuation)
    uncached = _swallowed(prompts, rows_needed(tuple(sources.values())), block)
    return Plan(
        tuple(prompts),
        tuple(ids),
        tuple(sources[request.context, request.continuation] for request in requests),
        uncached,
    )


def rows_needed(sources: Sequence[AnswerSource]) -> dict[int, int]:
    """Returns for each request whose prompt rows are read the first that is: row i is computed at position i - 1, and
    not if the cache has that."""
    return {source.rest: source.context + (source.first is not None) for source in sources if source.rest is not None}


def _swallowed(prompts: Sequence[Tokens], needed: Mapping[int, int], block: int) -> frozenset[int]:
    """Requests that would find rows they need in the cache, as the ones before them fill it; the last token of a prompt
    is always computed."""
    filled: set[int] = set()
    found: set[int] = set()
    for number, prompt in enumerate(prompts):
        beginning = 0
        for end in range(block, len(prompt) + 1, block):
            beginning = hash((beginning, prompt[end - block : end]))  # of ints: the same in every process
            if needed.get(number, len(prompt)) <= end < len(prompt) and beginning in filled:
                found.add(number)
            filled.add(beginning)
    return frozenset(found)


def score(llm: "LLM", planned: Plan, prefix: Prefix) -> int:
    """Puts the answers to the planned batch into `prefix` as they come, until it says no, and returns the tokens
    computed.

    Sampling parameters are safe to share: vLLM copies them for each request.
    """
    from vllm import SamplingParams

    common: dict[str, Any] = {
        "temperature": 0.0,
        "max_tokens": 1,
        "detokenize": False,
        "flat_logprobs": True,
        "skip_clone": True,
    }
    rows = SamplingParams(prompt_logprobs=0, skip_reading_prefix_cache=False, **common)
    uncached = SamplingParams(prompt_logprobs=0, skip_reading_prefix_cache=True, **common)
    running, outputs = Running(llm), dict[int, "RequestOutput"]()
    parameters = [
        SamplingParams(logprob_token_ids=list(wanted), **common)
        if wanted
        else uncached
        if number in planned.uncached
        else rows
        for number, wanted in enumerate(planned.ids)
    ]
    running.add(range(len(planned.prompts)), planned.prompts, parameters)
    needed, waiting = rows_needed(planned.sources), planned.readers()
    while running:
        for number, output in running.step():
            if number in needed and (output.num_cached_tokens or 0) >= needed[number]:
                running.add(
                    [number], [planned.prompts[number]], [uncached]
                )  # the prefix cache swallowed a row that is needed
                continue
            outputs[number] = output
            for place in waiting[number]:
                source = planned.sources[place]
                if all(one is None or one in outputs for one in (source.first, source.rest)):
                    prefix.put(place, _answer(source, outputs))
        if not prefix.go_on():
            return running.tokens + running.drop()
    return running.tokens


def flat(logprobs: object) -> "FlatLogprobs":
    """Returns the log-probabilities of an output of a request with `flat_logprobs`.

    Raises:
        EngineError: the output has none.
    """
    from vllm.logprobs import FlatLogprobs

    if not isinstance(logprobs, FlatLogprobs):
        raise EngineError(
            f"expected log-probabilities from vLLM, found {type(logprobs).__name__}: is this version of it supported?"
        )
    return logprobs


def _answer(source: AnswerSource, outputs: "Mapping[int, RequestOutput]") -> Continuation:
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
