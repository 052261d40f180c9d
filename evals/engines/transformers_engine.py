"""The `Engine` protocol on plain transformers: the reference in tests, and where vLLM cannot run an architecture.
Causal and sequence-to-sequence models, and those that read pictures or sounds beside text, judged on text.

Knows no scheduler and no cache across requests: every answer is one padded forward pass, or one greedy loop. A
sequence-to-sequence model reads the context or prompt in its encoder and answers in its decoder, as in
lm-evaluation-harness's own backend.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

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
from psomerge.evals.engines.model_types import auto_class, decoder_start
from psomerge.evals.engines.prefix import Prefix
from psomerge.evals.engines.shell import write_shell
from psomerge.fit.loading import loading_of
from psomerge.merge.basis import open_basis
from psomerge.recipe import Recipe


class TransformersEngine:
    """Implements `evals.engines.engine.Engine` on the CPU; `auto` dtype is float32."""

    def __init__(self, folders: Mapping[str, Path], settings: EngineSettings) -> None:
        """Builds the model of the base's config; `load` fills it.

        Args:
            folders: local folder of `base`, then of each expert by name in the recipe's order.
            settings: threads, dtype, tokenizer and batch size are used.
        """
        self._settings = settings
        self._dtype = torch.float32 if settings.dtype == "auto" else getattr(torch, settings.dtype)
        self._basis = open_basis(folders, settings.tokenizer_from)
        torch.set_num_threads(settings.threads)

        from transformers import (
            AutoConfig,
            AutoModelForMultimodalLM,
            AutoTokenizer,
            GenerationConfig,
        )

        with tempfile.TemporaryDirectory(prefix="psomerge.") as name:
            home = Path(name)
            write_shell(self._basis, settings.tokenizer_from, home)
            config = AutoConfig.from_pretrained(home, local_files_only=True)
            self._tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True)
            ends, own = {self._tokenizer.eos_token_id}, None
            if (home / "generation_config.json").is_file():
                own = GenerationConfig.from_pretrained(home)
                ends |= set(own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id])
        self._ends = ends - {None}
        self._paired = bool(config.is_encoder_decoder)
        begin = decoder_start(config, own)
        if self._paired and begin is None:
            raise ConfigError(
                "the base is an encoder-decoder and says no decoder_start_token_id and no bos_token_id; add the token "
                "that its texts begin with to its config.json"
            )
        self._begin = begin or 0  # 0 stands for none: a causal model writes behind its prompt
        kind = auto_class(config)
        self._model: Any = kind.from_config(config, dtype=self._dtype, trust_remote_code=False).eval()
        if kind is AutoModelForMultimodalLM:
            self._must_take_text()
        # Some models hold several tensors of their checkpoints in one, as those of mixtures of experts, or tie what a
        # checkpoint holds apart, as Flan-T5's head: the library's own loader knows how.
        state, names = self._model.state_dict(), self._basis.base.tensors.keys()
        self._converted = not names <= state.keys() or len({state[name].data_ptr() for name in names}) < len(names)
        self._ready = False

    @property
    def capabilities(self) -> Capabilities:
        from importlib.metadata import version

        return Capabilities(
            "transformers",
            version("transformers"),
            device_name(cpu=True),
            str(self._dtype).removeprefix("torch."),
            self._settings.threads,
            True,
        )

    def load(self, recipe: Recipe) -> dict[str, float]:
        """Fills the model with the recipe's tensors, in float32 from what was rounded to the recipe's dtype; see
        `evals.engines.engine.Engine`."""
        begin, self._ready = perf_counter(), False
        with torch.no_grad():
            (self._convert if self._converted else self._copy)(recipe)
        self._ready = True
        return {"merge": 0.0, "load": perf_counter() - begin, "reset": 0.0, "canary": 0.0}

    @torch.inference_mode()
    def _must_take_text(self) -> None:
        """Raises ConfigError where a model that reads pictures or sounds does not go without them, or does not write
        text word for word: one that sees what follows gives answers away."""
        name, ids = type(self._model).__name__, torch.tensor([[0, 1], [0, 2]])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self._paired:
            given |= {"input_ids": torch.zeros_like(ids), "decoder_input_ids": ids}
        try:
            first = self._model(**given, use_cache=False).logits[:, 0].float()
        except Exception as error:  # whatever a class of the library makes of what it lacks
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            few = 64 if self._dtype == torch.float32 else 2
            if bool((first[0] - first[1]).abs().max() <= few * torch.finfo(self._dtype).eps * first.abs().max()):
                return
            reason = "without a picture it reads a text from both sides"
        raise ConfigError(
            f"{name} does not judge text alone ({reason}); use another model, or `psomerge merge`, which merges it "
            "without judging"
        )

    def _copy(self, recipe: Recipe) -> None:
        """Writes each tensor where the model has it."""
        state = self._model.state_dict()
        written: set[int] = set()
        for name, tensor in self._finite(recipe):
            if name not in state or state[name].shape != tensor.shape:
                raise EngineError(
                    f"swap refused: the model of this config has no tensor {name!r} of shape {tuple(tensor.shape)}"
                )
            state[name].copy_(tensor)
            written.add(state[name].data_ptr())
        missing = [name for name, tensor in state.items() if tensor.data_ptr() not in written]
        if missing:
            raise EngineError(f"swap refused: no tensor for {missing[0]!r}")

    def _convert(self, recipe: Recipe) -> None:
        """Has the library make a model of all tensors together."""
        made = {
            name: tensor.to(self._dtype) if tensor.is_floating_point() else tensor
            for name, tensor in self._finite(recipe)
        }
        settings = {"config": self._model.config, "state_dict": made, "dtype": self._dtype, "output_loading_info": True}
        self._model, told = type(self._model).from_pretrained(None, **settings)
        self._model.eval()
        loading, tensors = loading_of(self._model), self._basis.base.tensors
        for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            names = sorted(map(str, told[fault]))
            if fault == "unexpected_keys":  # the library reports some that its classes make themselves, or never had
                names = [name for name in names if name not in tensors or not loading.ignores(name, tensors[name])]
            if names:
                raise EngineError(f"swap refused: {fault.replace('_', ' ')} of the model of this config: {names[0]}")

    def _finite(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._basis.merged_tensors(recipe):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise ModelError(f"swap refused: tensor {name!r} holds a value that is not finite")
            yield name, tensor

    def loglikelihood(self, requests: Sequence[Loglikelihood]) -> list[Continuation]:
        """Returns the answers in order. Equal requests in equal order have equal bits."""
        return list(self.answer(Batch(tuple(requests))).loglikelihood)

    def generate(self, requests: Sequence[Generation]) -> list[str]:
        """Returns the greedy continuations in order, without the stop string."""
        return list(self.answer(Batch((), tuple(requests))).generation)

    def answer(self, batch: Batch, watch: Watch | None = None) -> Answers:
        """Returns the answers batch by batch, in order; see `evals.engines.engine.Engine`."""
        self._check_ready()
        prefix, tokens = Prefix(batch, watch), 0
        for numbers in self._batches(
            [len(request.context) + len(request.continuation) for request in batch.loglikelihood],
            self._settings.max_num_seqs,
        ):
            requests = [batch.loglikelihood[number] for number in numbers]
            for number, answer in zip(numbers, self._forward(requests), strict=True):
                prefix.put(number, answer)
            tokens += sum(len(request.context) + len(request.continuation) for request in requests)
            if not prefix.go_on():
                return replace(prefix.answers(), tokens=tokens)
        # Prompts of several lengths end at one place only in a decoder of its own: a causal model writes its texts one
        # by one.
        together = self._settings.max_num_seqs if self._paired else 1
        for numbers in self._batches(
            [len(request.prompt) + request.max_tokens for request in batch.generation], together
        ):
            for number, text in zip(
                numbers, self._greedy([batch.generation[number] for number in numbers]), strict=True
            ):
                prefix.put(len(batch.loglikelihood) + number, text.text)
                tokens += len(text.request.prompt) + len(text.made)
            if not prefix.go_on():
                break
        return replace(prefix.answers(), tokens=tokens)

    def close(self) -> None:
        """Does nothing: the model ends with its last reference."""

    def _check_ready(self) -> None:
        if not self._ready:
            raise EngineError("the engine holds no checked model: load a recipe first")

    def _batches(self, lengths: Sequence[int], most: int) -> Iterator[range]:
        """Yields request numbers, in order, at most `most` together, whose padded batch holds at most the settings'
        tokens."""
        begin, longest = 0, 0
        for number, length in enumerate(lengths):
            longest = max(longest, length)
            size = number + 1 - begin
            if size > 1 and (size > most or size * longest > self._settings.max_num_batched_tokens):
                yield range(begin, number)
                begin, longest = number, length
        if lengths:
            yield range(begin, len(lengths))

    @torch.inference_mode()
    def _forward(self, requests: list[Loglikelihood]) -> list[Continuation]:
        # Padding stands on the right, where a decoder's earlier positions cannot see it; its own rows are never read.
        if self._paired:
            ids, mask = _padded([request.context for request in requests])
            begun, _ = _padded([(self._begin, *request.continuation[:-1]) for request in requests])
            logits = self._model(input_ids=ids, attention_mask=mask, decoder_input_ids=begun, use_cache=False).logits
            return [_continuation(logits[i], request.continuation) for i, request in enumerate(requests)]
        ids, mask = _padded([request.context + request.continuation for request in requests])
        logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [
            _continuation(logits[i, len(request.context) - 1 :], request.continuation)
            for i, request in enumerate(requests)
        ]

    @torch.inference_mode()
    def _greedy(self, requests: list[Generation]) -> "list[_Text]":
        """The texts of a batch; of a causal model it holds a single request."""
        texts = [_Text(request) for request in requests]
        ids, mask = _padded([request.prompt for request in requests])
        last, name, given, cache = ids, "input_ids", {}, None
        if self._paired:
            given = {
                "encoder_outputs": self._model.get_encoder()(input_ids=ids, attention_mask=mask),
                "attention_mask": mask,
            }
            last, name = torch.full((len(requests), 1), self._begin), "decoder_input_ids"
        while not all(text.done for text in texts):
            output = self._model(**given, **{name: last}, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            last = output.logits[:, -1].argmax(-1, keepdim=True)
            for text, token in zip(texts, last[:, 0].tolist(), strict=True):
                if not text.done:
                    text.add(token, self._ends, self._tokenizer)
        return texts


@dataclass
class _Text:
    """A greedy answer that is being written."""

    request: Generation
    made: list[int] = field(default_factory=list)
    text: str = ""
    done: bool = False

    def add(self, token: int, ends: set[int], tokenizer: Any) -> None:
        """Takes the next token; ends at one of `ends`, at a stop string or when it is long enough."""
        if token not in ends:
            self.made.append(token)
            written = tokenizer.decode(self.made, skip_special_tokens=not self.request.special)
            self.text = first_part(written, self.request.stop)
            self.done = len(self.text) < len(written) or len(self.made) >= self.request.max_tokens
        else:
            self.done = True


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids (rows, longest), 0 to the right of a shorter row, and the mask of what is no padding."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return ids, torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


def _continuation(logits: Tensor, continuation: Sequence[int]) -> Continuation:
    """`logits`: (at least as many as tokens, vocabulary); row i predicts token i of the continuation."""
    scores = logits[: len(continuation)].float().log_softmax(-1)
    wanted = torch.tensor(continuation)
    chosen = scores.gather(1, wanted[:, None])[:, 0]
    return Continuation(fsum(chosen.tolist()), bool((scores.argmax(-1) == wanted).all()))
