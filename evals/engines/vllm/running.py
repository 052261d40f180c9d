"""vLLM's own loop, one step at a time: requests go in as `LLM.generate` sends them, and come out as they are finished.

`LLM.generate` answers when all is done; here the caller hears after each step and may drop the rest. The schedule, and
so every bit, is the same.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psomerge.errors import EngineError

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

Tokens = tuple[int, ...]


class Running:
    """Requests that the engine works on, by numbers of the caller's."""

    def __init__(self, llm: "LLM") -> None:
        self._llm = llm
        self._numbers: dict[str, int] = {}
        self._asked: dict[int, tuple[Tokens, int]] = {}
        self._steps = 0
        self.tokens = 0
        """Computed for finished requests: those of prompts that the prefix cache had not, and generated ones."""

    def add(self, numbers: Sequence[int], prompts: Sequence[Tokens], parameters: "Sequence[SamplingParams]") -> None:
        """Puts requests at the end of the queue, in order."""
        identities = self._llm.enqueue(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts], parameters, use_tqdm=False
        )
        # What `enqueue` returns is the engine's inner name: the one that outputs bear, a dash, and letters at random.
        self._numbers |= zip((identity.partition("-")[0] for identity in identities), numbers, strict=True)
        self._asked |= {
            number: (prompt, one.max_tokens or 0)
            for number, prompt, one in zip(numbers, prompts, parameters, strict=True)
        }

    def step(self) -> "list[tuple[int, RequestOutput]]":
        """Computes one step, and returns which requests it finished, with their outputs."""
        from vllm import RequestOutput

        self._steps += 1
        finished: list[tuple[int, RequestOutput]] = []
        for output in self._llm.llm_engine.step():
            if not isinstance(output, RequestOutput) or output.prompt_token_ids is None:
                raise EngineError(
                    f"expected a generation from vLLM, found {type(output).__name__}: is this version of it supported?"
                )
            if output.finished:
                number = self._numbers.pop(output.request_id)
                del self._asked[number]
                self.tokens += (
                    len(output.prompt_token_ids)
                    - (output.num_cached_tokens or 0)
                    + sum(len(one.token_ids) for one in output.outputs)
                )
                finished.append((number, output))
        return finished

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return bool(self._numbers)

    def drop(self) -> int:
        """Ends what is left, and returns how many tokens of it were computed, at most.

        Requests begin in order. One that asks for a single token ends in the step that computes the last of its prompt,
        so one of those at most is under way; others generate a token a step.
        """
        left, self._asked = self._asked, {}
        self._llm.llm_engine.abort_request(list(self._numbers))
        self._numbers = {}
        single = next((len(prompt) for prompt, most in left.values() if most == 1), 0)
        longer = [len(prompt) + min(most, self._steps) for prompt, most in left.values() if most > 1]
        return single + sum(longer[: self._llm.llm_engine.vllm_config.scheduler_config.max_num_seqs])
