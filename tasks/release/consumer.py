"""What a consumer gets who loads a model with plain transformers: does it answer as the model that was judged?

Both engines fill a model with tensors that psomerge makes, so neither sees what the library's own loader makes of the
files: a head that it ties or does not, a tensor that it draws at random. Nothing of psomerge's takes part here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Answers, Batch, Generation, Loglikelihood, first_part
from psomerge.evals.engines.model_types import auto_class, decoder_start

CONTEXTS, TEXTS, TOKENS = 32, 8, 32
"""Asked at most: contexts with all their continuations, prompts, and tokens written for each."""
CHOICES = 32
"""Continuations of one context at most that are taken for the choices of one item."""
Found = TypeVar("Found")
TOLERANCE = {"float32": 0.05, "float16": 0.25, "bfloat16": 1.0}
"""Natural-log margin below which an answer may differ, by the dtype computed in. Sums over up to 16 tokens of three
models differed by 0.36 at most between bfloat16 and float32; two of them make a margin."""


@dataclass(frozen=True)
class _Consumer:
    """A model and its tokenizer, loaded."""

    model: Any
    tokenizer: Any

    @torch.inference_mode()
    def logprob(self, request: Loglikelihood) -> float:
        """The sum of natural-log probabilities of a continuation."""
        context, continuation = request.context, request.continuation
        if self.model.config.is_encoder_decoder:
            begun = [self.model.generation_config.decoder_start_token_id, *continuation[:-1]]
            logits = self.model(input_ids=self._ids(context), decoder_input_ids=self._ids(begun)).logits[0]
        else:
            logits = self.model(input_ids=self._ids((*context, *continuation[:-1]))).logits[0, len(context) - 1 :]
        rows = logits.double().log_softmax(-1).cpu()
        return float(rows.gather(1, torch.tensor(continuation)[:, None]).sum())

    def misses(self, request: Generation, expected: str, tolerance: float) -> str | None:
        """The text that is written instead of the one expected, None where it is its beginning, or leaves it at a token
        whose rival was as good."""
        ids, most = self._ids(request.prompt), min(request.max_tokens, TOKENS)
        made = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            return_dict_in_generate=True,
            output_logits=True,
        )
        tokens, ends = made.sequences[0, -len(made.logits) :].tolist(), self.model.generation_config.eos_token_id or ()
        texts = [
            self.tokenizer.decode(
                [token for token in tokens[: n + 1] if token not in ends], skip_special_tokens=not request.special
            )
            for n in range(len(tokens))
        ]
        written = first_part(texts[-1], request.stop)
        unfinished = len(tokens) == TOKENS and written == texts[-1]
        if written == expected or (unfinished and expected.startswith(_whole(written, request.stop))):
            return None
        leaves = (n for n, text in enumerate(texts) if not expected.startswith(_whole(text, request.stop)))
        first, second = made.logits[next(leaves, -1)][0].double().topk(2).values.tolist()
        return None if first - second <= tolerance else written

    def _ids(self, tokens: Sequence[int]) -> Tensor:
        return torch.tensor([list(tokens)], device=self.model.device)


def _whole(text: str, stop: Sequence[str]) -> str:
    """Returns a text that goes on, without what its last token only began: a character, or a stop string."""
    text = first_part(text, stop).rstrip("\ufffd")
    begun = (end[:length] for end in stop for length in range(len(end), 0, -1) if text.endswith(end[:length]))
    return text.removesuffix(max(begun, key=len, default=""))


def differences(model: Path, batch: Batch, expected: Answers, *, dtype: str, threads: int) -> list[str]:
    """Returns in what the answers of a model, loaded as its files say, differ from those expected; one line each.

    Of the contexts that leave a choice, half of those asked are the ones whose choice was closest, the other half and
    the prompts are spread over the batch. Each choice must be the expected one wherever its margin exceeds the
    tolerance of the dtype.

    Args:
        model: folder of a checkpoint as it was downloaded.
        batch, expected: what was asked when it was judged, and the answers.
        dtype: that the judging engine computed in. Weights are loaded in the dtype that they are stored in, and then
            computed with in this one: what rounding alone does is not asked.
        threads: of torch.

    Raises:
        EngineError: there is no memory to load it.
    """
    torch.set_num_threads(threads)
    try:
        consumer, faults = _load(model, getattr(torch, dtype))
        return faults or _compared(consumer, batch, expected, TOLERANCE[dtype])
    except (MemoryError, ImportError, torch.OutOfMemoryError) as error:
        raise EngineError(f"{model}: plain transformers could not be asked: {error}; repeat the command") from error
    except Exception as error:  # whatever it stumbles over, every consumer will
        return [f"plain transformers cannot use it: {type(error).__name__}: {error}"]


def _compared(consumer: _Consumer, batch: Batch, expected: Answers, tolerance: float) -> list[str]:
    problems: list[str] = []
    for indices in _sample(batch, expected, tolerance):
        before = [expected.loglikelihood[index].logprob for index in indices]
        after = [consumer.logprob(batch.loglikelihood[index]) for index in indices]
        most = tolerance
        if len(indices) == 1:  # measured on sums of up to 16 tokens
            most *= max(1, len(batch.loglikelihood[indices[0]].continuation) / 16) ** 0.5
        if not apart(before, after) <= most:
            problems.append(
                f"plain transformers answers request {indices[0]} otherwise: log-likelihoods {_short(after)}, judged "
                f"were {_short(before)}"
            )
    for index in _spread(range(len(batch.generation)), TEXTS):
        text = expected.generation[index]
        if (written := consumer.misses(batch.generation[index], text, tolerance)) is not None:
            problems.append(f"plain transformers writes {written!r} for text {index}, judged was {text!r}")
    return problems


def apart(before: Sequence[float], after: Sequence[float]) -> float:
    """Returns by how much answers to one context miss those expected: the expected margin of another choice, or what
    lies between them where there is none."""
    return max(before) - before[after.index(max(after))] if len(before) > 1 else abs(before[0] - after[0])


def _load(model: Path, dtype: torch.dtype) -> tuple[_Consumer, list[str]]:
    """Returns the model, and what the library's loader had to make up or leave out."""
    import transformers as library

    config: Any = library.AutoConfig.from_pretrained(model, local_files_only=True)
    kind = auto_class(config)
    loaded, told = kind.from_pretrained(model, dtype="auto", local_files_only=True, output_loading_info=True)
    faults = [
        f"plain transformers finds {fault.replace('_', ' ')}: {', '.join(sorted(map(str, told[fault]))[:4])}"
        for fault in ("missing_keys", "mismatched_keys")
        if told.get(fault)
    ]
    if loaded.dtype != dtype:  # by the library: what it keeps in float32, as tables of positions, stays so
        loaded = kind.from_pretrained(model, dtype=dtype, local_files_only=True)
    tokenizer = library.AutoTokenizer.from_pretrained(model, local_files_only=True)
    own = loaded.generation_config
    listed = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    # Greedy alone, as it was judged: penalties and forced tokens of its generation_config are the user's matter.
    loaded.generation_config = library.GenerationConfig(
        do_sample=False,
        eos_token_id=sorted({tokenizer.eos_token_id, *listed} - {None}) or None,
        pad_token_id=0,
        decoder_start_token_id=decoder_start(config, own),
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _Consumer(loaded.eval().to(device), tokenizer), faults


def _sample(batch: Batch, expected: Answers, tolerance: float) -> list[list[int]]:
    """Returns the numbers of the requests to ask, by context."""
    requests = batch.loglikelihood
    contexts: list[list[int]] = []
    for _, found in groupby(range(len(requests)), key=lambda n: requests[n].context):
        indices = list(found)
        # Items without a context of their own stand behind one: what is a choice is not told then.
        contexts += [indices] if len(indices) <= CHOICES else [[index] for index in indices]

    def margin(indices: list[int]) -> float:
        first, second, *_ = sorted((expected.loglikelihood[n].logprob for n in indices), reverse=True)
        return first - second

    close = sorted((one for one in contexts if len(one) > 1 and margin(one) > tolerance), key=margin)[: CONTEXTS // 2]
    spread = [one for one in _spread(contexts, CONTEXTS) if one not in close]
    return close + list(_spread(spread, CONTEXTS - len(close)))


def _spread(found: Sequence[Found], count: int) -> Iterator[Found]:
    """Yields `count` of them at equal distances, all where there are fewer."""
    if len(found) <= count:
        yield from found
    else:
        yield from (found[number * len(found) // count] for number in range(count))


def _short(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.3f}" for value in values) + "]"
