"""The `Engine` protocol on plain transformers: the reference in tests, and where vLLM cannot run an architecture. Causal models only.

Knows no scheduler and no cache across requests: every answer is one padded forward pass, or one greedy loop.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from evals.engine import Answers, Batch, Capabilities, Continuation, EngineSettings, Generation, Loglikelihood, ModelError, Watch, first_part
from evals.host import device_name
from evals.prefix import Prefix
from psomerge.basis import open_basis
from psomerge.errors import EngineError
from psomerge.recipe import Recipe


class TransformersEngine:
    """Implements `evals.engine.Engine` on the CPU; `auto` dtype is float32."""

    def __init__(self, folders: Mapping[str, Path], settings: EngineSettings) -> None:
        """Builds the model of the base's config; `load` fills it.

        Args:
            folders: local folder of `base`, then of each expert by name in the recipe's order.
            settings: threads, dtype, tokenizer and batch size are used.
        """
        self._settings = settings
        self._dtype = torch.float32 if settings.dtype == "auto" else getattr(torch, settings.dtype)
        self._basis = open_basis(folders)
        torch.set_num_threads(settings.threads)

        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        config = AutoConfig.from_pretrained(folders["base"], local_files_only=True)
        self._model = AutoModelForCausalLM.from_config(config, dtype=self._dtype, trust_remote_code=False).eval()
        home = folders[settings.tokenizer_from]
        self._tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True)
        ends = {self._tokenizer.eos_token_id}
        if (home / "generation_config.json").is_file():
            listed = GenerationConfig.from_pretrained(home).eos_token_id
            ends |= set(listed if isinstance(listed, list) else [listed])
        self._ends = ends - {None}
        self._ready = False

    @property
    def capabilities(self) -> Capabilities:
        from importlib.metadata import version

        return Capabilities(
            "transformers", version("transformers"), device_name(cpu=True), str(self._dtype).removeprefix("torch."), self._settings.threads, True
        )

    def load(self, recipe: Recipe) -> dict[str, float]:
        """Fills the model with the recipe's tensors, in float32 from what was rounded to the recipe's dtype; see `evals.engine.Engine`."""
        begin, self._ready = perf_counter(), False
        state = self._model.state_dict()
        written: set[int] = set()
        with torch.no_grad():
            for name, tensor in self._basis.merged_tensors(recipe):
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise ModelError(f"swap refused: tensor {name!r} holds a value that is not finite")
                if name not in state or state[name].shape != tensor.shape:
                    raise EngineError(f"swap refused: the model of this config has no tensor {name!r} of shape {tuple(tensor.shape)}")
                state[name].copy_(tensor)
                written.add(state[name].data_ptr())
        missing = [name for name, tensor in state.items() if tensor.data_ptr() not in written]
        if missing:
            raise EngineError(f"swap refused: no tensor for {missing[0]!r}")
        self._ready = True
        return {"merge": 0.0, "load": perf_counter() - begin, "reset": 0.0, "canary": 0.0}

    def loglikelihood(self, requests: Sequence[Loglikelihood]) -> list[Continuation]:
        """Returns the answers in order. Equal requests in equal order have equal bits."""
        return list(self.answer(Batch(tuple(requests))).loglikelihood)

    def generate(self, requests: Sequence[Generation]) -> list[str]:
        """Returns the greedy continuations in order, without the stop string."""
        return list(self.answer(Batch((), tuple(requests))).generation)

    def answer(self, batch: Batch, watch: Watch | None = None) -> Answers:
        """Returns the answers batch by batch, in order; see `evals.engine.Engine`."""
        self._check_ready()
        prefix, tokens = Prefix(batch, watch), 0
        for numbers in self._batches(batch.loglikelihood):
            requests = [batch.loglikelihood[number] for number in numbers]
            for number, answer in zip(numbers, self._forward(requests), strict=True):
                prefix.put(number, answer)
            tokens += sum(len(request.context) + len(request.continuation) for request in requests)
            if not prefix.go_on():
                return replace(prefix.answers(), tokens=tokens)
        for number, request in enumerate(batch.generation, len(batch.loglikelihood)):
            text, made = self._greedy(request)
            prefix.put(number, text)
            tokens += len(request.prompt) + made
            if not prefix.go_on():
                break
        return replace(prefix.answers(), tokens=tokens)

    def close(self) -> None:
        """Does nothing: the model ends with its last reference."""

    def _check_ready(self) -> None:
        if not self._ready:
            raise EngineError("the engine holds no checked model: load a recipe first")

    def _batches(self, requests: Sequence[Loglikelihood]) -> Iterator[range]:
        """Yields request numbers, in order, whose padded batch holds at most the settings' tokens."""
        begin, longest = 0, 0
        for number, request in enumerate(requests):
            longest = max(longest, len(request.context) + len(request.continuation))
            size = number + 1 - begin
            if size > 1 and (size > self._settings.max_num_seqs or size * longest > self._settings.max_num_batched_tokens):
                yield range(begin, number)
                begin, longest = number, len(request.context) + len(request.continuation)
        if requests:
            yield range(begin, len(requests))

    @torch.inference_mode()
    def _forward(self, requests: list[Loglikelihood]) -> list[Continuation]:
        rows = [torch.tensor(request.context + request.continuation) for request in requests]
        # Padding stands on the right, where a causal model's earlier positions cannot see it; its own rows are never read.
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        logits = self._model(input_ids=ids, attention_mask=_mask(rows, ids), use_cache=False).logits
        return [_continuation(logits[i], request) for i, request in enumerate(requests)]

    @torch.inference_mode()
    def _greedy(self, request: Generation) -> tuple[str, int]:
        """The text, and the number of tokens made for it."""
        made: list[int] = []
        ids, cache, text = torch.tensor([request.prompt]), None, ""
        while len(made) < request.max_tokens:
            output = self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = int(output.logits[0, -1].argmax())
            if token in self._ends:
                break
            made.append(token)
            text = self._tokenizer.decode(made, skip_special_tokens=True)
            if any(stop and stop in text for stop in request.stop):
                break
            ids = torch.tensor([[token]])
        return first_part(text, request.stop), len(made)


def _mask(rows: list[Tensor], ids: Tensor) -> Tensor:
    return torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


def _continuation(logits: Tensor, request: Loglikelihood) -> Continuation:
    """`logits`: (length, vocabulary) of one padded row; row i predicts token i + 1."""
    begin = len(request.context) - 1
    scores = logits[begin : begin + len(request.continuation)].float().log_softmax(-1)
    wanted = torch.tensor(request.continuation)
    chosen = scores.gather(1, wanted[:, None])[:, 0]
    return Continuation(fsum(chosen.tolist()), bool((scores.argmax(-1) == wanted).all()))
