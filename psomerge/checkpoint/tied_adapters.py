"""Adapters of a base whose output head is its embedding: what of them changes both in one way, as the base's one tensor
can be changed, and what would set them apart."""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

import torch

from psomerge.checkpoint.adapter_config import is_saved_whole
from psomerge.checkpoint.adapter_keys import Key, Kind
from psomerge.checkpoint.layers import is_embedding, is_head
from psomerge.checkpoint.reader import Checkpoint
from psomerge.files.names import VOCABULARY_FILES
from psomerge.screening.formats import literal

_PARTNERS = {Kind.A: Kind.EMBEDDING_B, Kind.B: Kind.EMBEDDING_A}
"""Of the head's factors those of the embedding that are the same turned over."""


class TiedHead:
    """What an adapter's file holds of a tied head."""

    def __init__(
        self, config: Mapping[str, Any], stored: Checkpoint, base: Checkpoint, keys: Mapping[str, Key], *, values: bool
    ) -> None:
        """Keeps what is needed; arguments as of `Parts`, and the keys by name."""
        self._config, self._stored, self._base, self._keys, self._values = config, stored, base, keys, values
        self._embedding = next((name for name in base.tensors if is_embedding(name)), "")
        self._head = {name: key for name, key in keys.items() if is_head(key.target) and key.target not in base.tensors}
        self._copies = {name for name, key in self._head.items() if self._is_copy(name, key)}

    @property
    def without_head(self) -> dict[str, Key]:
        """The keys without those of the head: it is the embedding."""
        return {name: key for name, key in self._keys.items() if name not in self._head}

    @property
    def faults(self) -> list[str]:
        """What would set head and embedding apart, with what to do."""
        apart = sorted(self._head.keys() - self._copies)
        if apart:
            how = f"changes its head ({apart[0]!r}) otherwise than the embedding"
        elif alone := self._alone():
            how = f"changes the embedding ({alone!r}) and leaves the head as it was"
        else:
            return []
        return [f"{how}, and in this base they are one tensor; {untied(self._base)}"]

    @property
    def carries(self) -> str:
        """A factor of the embedding alone: PEFT trains it with the head as it was, and merges it into both."""
        return self._of_embedding_alone(lambda key: key.kind in (Kind.EMBEDDING_A, Kind.EMBEDDING_B))

    def _alone(self) -> str:
        """The embedding that PEFT trains apart from the head, which stays tied to what the embedding was."""
        return self._of_embedding_alone(
            lambda key: key.kind is Kind.SAVED or (key.kind is Kind.WHOLE and is_saved_whole(self._config, key.module))
        )

    def _of_embedding_alone(self, meant: Callable[[Key], bool]) -> str:
        if self._head or self._config.get("ensure_weight_tying") or not self._embedding:
            return ""
        return next(
            (name for name, key in self._keys.items() if key.target == self._embedding and meant(key)),
            "",
        )

    def _is_copy(self, name: str, key: Key) -> bool:
        """Whether a tensor of the head says of it what is said of the embedding, or nothing."""
        found = self._stored.tensor(name)
        if key.kind in _PARTNERS:
            other = self._of_embedding(_PARTNERS[key.kind])
            return other is not None and found.ndim == 2 and _equal(found.t(), other)
        trained = None if key.kind in (Kind.ORIGINAL, Kind.BASE_LAYER) else self._of_embedding(Kind.SAVED, Kind.WHOLE)
        if trained is not None:
            return _equal(found, trained)
        return not self._values or _equal(found, self._base.tensor(self._embedding))

    def _of_embedding(self, *kinds: Kind) -> torch.Tensor | None:
        found = (name for name, key in self._keys.items() if key.target == self._embedding and key.kind in kinds)
        return next((self._stored.tensor(name) for name in found), None)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to(other.dtype), other)


def untied(base: Checkpoint) -> str:
    """Returns the command that makes a base whose head is a tensor of its own, with its tokenizer."""
    kind, folder = base.config["architectures"][0], literal(base.folder)
    carried = f'; t.AutoTokenizer.from_pretrained({folder}).save_pretrained("UNTIED")'
    code = (
        f"import torch, transformers as t; m = t.{kind}.from_pretrained({folder}, "
        'dtype="auto"); m.config.tie_word_embeddings = m.config.get_text_config().tie_word_embeddings = False; '
        "h = m.get_output_embeddings(); h.weight = torch.nn.Parameter(h.weight.detach().clone()); "
        'm.save_pretrained("UNTIED")' + (carried if set(VOCABULARY_FILES) & base.files.keys() else "")
    )
    return f"give a base with a head of its own, made with: python -c {shlex.quote(code)}"
