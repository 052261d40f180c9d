"""Prompts as token ids, cut between context and continuation exactly as lm-evaluation-harness cuts them.

The rules (a trailing space goes to the continuation, an empty context becomes the start token, no second start token)
are the harness's own `TemplateLM.loglikelihood`, run on an object that keeps the tokens instead of scoring them.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from psomerge.errors import ArtefactError, ConfigError
from psomerge.evals.engines.engine import Generation, Loglikelihood
from psomerge.evals.harness.greedy import check_greedy
from psomerge.evals.harness.templates import ChatTemplate
from psomerge.evals.harness.thinking import Marks
from psomerge.files.untrusted import listing
from psomerge.screening.companions import check_companions

logger = logging.getLogger(__name__)
_PROBE = "Probe 1: ä, 字.\n"
"""A tokenizer that cannot encode this cannot encode a prompt."""


class Encoder:
    """A tokenizer folder, opened once: requests of lm-eval in, requests of an engine out."""

    def __init__(self, folder: Path) -> None:
        """Opens the tokenizer; no remote code, no download.

        Args:
            folder: with tokenizer files, and `config.json` where the longest sequence of the model is to be kept to.

        Raises:
            ArtefactError: no usable tokenizer, one without an end-of-text token, or a file that `check_companions`
                refuses.
        """
        check_companions(folder, listing(folder))
        from lm_eval.models.utils import resolve_max_length
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig
        from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

        # tiktoken keeps what it has read by the file's path, and would give one folder's vocabulary for what lies there
        # now.
        os.environ["TIKTOKEN_CACHE_DIR"] = ""
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            config = (
                AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
                if (folder / "config.json").is_file()
                else None
            )
            if isinstance(tokenizer.model_max_length, int) and tokenizer.model_max_length < 1:  # it means none
                tokenizer.model_max_length = VERY_LARGE_INTEGER
            tokenizer.encode(_PROBE)
            if (
                folder / "generation_config.json"
            ).is_file():  # not used here: an engine opens it, and should not die of it
                GenerationConfig.from_pretrained(folder)
        except Exception as error:  # what a damaged file makes these libraries raise is not limited to any class
            raise ArtefactError(
                f"{folder}: cannot open its tokenizer or configuration: {' '.join(str(error).split())[:300]}"
            ) from error
        if tokenizer.eos_token_id is None:
            raise ArtefactError(
                f"{folder}: its tokenizer has no end-of-text token (eos_token); prompts without context need it"
            )
        self._tokenizer = tokenizer
        self._template: ChatTemplate | None = None
        self._folder = folder
        self._longest = resolve_max_length(config, tokenizer)
        # A sequence-to-sequence model has an encoder for the prompt and a decoder for the answer: each is cut by itself
        # and has the whole length.
        self._paired = bool(getattr(config, "is_encoder_decoder", False))
        self._lm = _token_keeper(tokenizer, "seq2seq" if self._paired else "causal")

    def loglikelihood(self, instances: Sequence[Any]) -> list[Loglikelihood]:
        """Returns one request for each lm-eval instance of (context, continuation).

        A pair longer than the model's longest sequence loses the start of its context, as in the harness, with a
        warning.

        Raises:
            ArtefactError: a continuation without tokens, or one that leaves no room for a context.
        """
        requests, cut = [], 0
        for (context, continuation), before, after in self._lm.loglikelihood(list(instances), disable_tqdm=True):
            most, room = (
                (self._longest, self._longest) if self._paired else (self._longest - 1, self._longest - len(after))
            )
            if not 0 < len(after) <= most:
                raise ArtefactError(
                    f"a continuation of {len(after)} tokens, expected 1 to {most}: {continuation[:60]!r} after "
                    f"{context[-60:]!r}"
                )
            cut += len(before) > room
            requests.append(Loglikelihood(tuple(before[-room:]), tuple(after)))
        self._warn(cut, len(requests))
        return requests

    def generation(self, instances: Sequence[Any], marks: Marks | None = None) -> list[Generation]:
        """Returns one request for each lm-eval instance of (context, generation settings); end of text is a stop string
        too, and the only one where the model thinks first, to the end of which nothing else may stop it.

        Raises:
            ConfigError: the task samples, or asks for beams or penalties: only greedy answers can be repeated.
            ArtefactError: an empty prompt, or no room for one beside the answer.
        """
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        requests, cut = [], 0
        end = self._tokenizer.decode(self._tokenizer.eos_token_id)
        for instance in instances:
            context, settings = instance.args[:2]
            wanted = normalize_gen_kwargs(settings)
            check_greedy(instance.task_name, wanted)
            stop, most = handle_stop_sequences(wanted.get("until"), eos=end), int(wanted.get("max_gen_toks", 0))
            prompt = self._lm.tok_encode(context)
            if not prompt or not 0 < most < self._longest:
                raise ArtefactError(
                    f"task {instance.task_name}: a prompt of {len(prompt)} tokens with {most} to generate, of "
                    f"{self._longest} in all"
                )
            room = self._longest if self._paired else self._longest - most
            cut += len(prompt) > room
            stops = tuple(term for term in ([end] if marks else stop) if term)
            requests.append(Generation(tuple(prompt[-room:]), stops, most, self._written(marks)))
        self._warn(cut, len(requests))
        return requests

    def chat_template(
        self,
        history: Sequence[Mapping[str, str]],
        *,
        add_generation_prompt: bool = True,
        date: str | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> str | None:
        """Returns turns as one text, by the tokenizer's template; None where it refuses them.

        Args:
            history: turns with `role` and `content`.
            add_generation_prompt: whether the text ends where the answer begins, or goes on with the last turn.
            date: YYYY-MM-DD, which the template takes for today; None: it is today.
            arguments: what it is told beside, by name.

        Raises:
            ConfigError: the tokenizer has no chat template.
            ArtefactError: the template is broken or never ends.
        """
        if not self._tokenizer.chat_template:
            raise ConfigError(
                "the suite asks for a chat template and the tokenizer has none; set tokenizer_from to a model with "
                "one, or chat_template: false"
            )
        if self._template is None:
            self._template = ChatTemplate(
                self._tokenizer.get_chat_template(), self._tokenizer.special_tokens_map, str(self._folder)
            )
        return self._template.render(
            history, add_generation_prompt=add_generation_prompt, date=date, arguments=arguments
        )

    @property
    def writes_a_date(self) -> bool:
        """Whether turns that were made a text may hold the date."""
        return self._template is not None and self._template.writes_a_date

    def _written(self, marks: Marks | None) -> bool:
        """Whether a thought's marks have tokens that are left out of what a model writes, unless they are asked for."""
        texts = [text for text in (marks.begin, marks.end) if text] if marks else []
        return any(token in text for token in self._tokenizer.all_special_tokens if token for text in texts)

    def _warn(self, cut: int, among: int) -> None:
        if cut:
            logger.warning(
                "%d of %d prompts lose their start: with the answer they are longer than the model's longest "
                "sequence, %d tokens",
                cut,
                among,
                self._longest,
            )


def _token_keeper(tokenizer: Any, kind: str) -> Any:
    """An lm-eval language model, `causal` or `seq2seq`, that answers `loglikelihood` with ((context, continuation),
    context ids, continuation ids)."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import has_bos_prefix

    class TokenKeeper(TemplateLM):
        backend = kind

        @property
        def eot_token_id(self) -> int:
            return tokenizer.eos_token_id

        @property
        def prefix_token_id(self) -> int:
            return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            # As the harness's HFLM: the tokenizer decides about its start token, unless the text brings it along.
            if add_special_tokens is None and has_bos_prefix(string, tokenizer.decode(self.prefix_token_id)):
                add_special_tokens = False
            return (
                tokenizer.encode(string)
                if add_special_tokens is None
                else tokenizer.encode(string, add_special_tokens=add_special_tokens)
            )

        def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[Any]:
            return requests

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            raise NotImplementedError("perplexity is no score in [0, 1]")

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            raise NotImplementedError("this object only encodes")

    return TokenKeeper()
