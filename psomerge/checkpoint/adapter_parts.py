"""What the tensors of an adapter's file do to the base's, and everything that is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psomerge.arithmetic.low_rank import LowRank
from psomerge.checkpoint.adapter_config import expand, is_saved_whole, rank_of, scale_of
from psomerge.checkpoint.adapter_keys import Key, Kind, read_key
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.layers import has_row_a_token, is_embedding, vocabulary_rows
from psomerge.checkpoint.plain_names import Names
from psomerge.checkpoint.reader import Checkpoint
from psomerge.checkpoint.tied_adapters import TiedHead, untied
from psomerge.files.names import ADAPTER

OF_BASE = (Kind.ORIGINAL, Kind.BASE_LAYER)
"""Kinds of tensors that are the base's own: told from what was trained by their values only."""
_PAIRS = ([Kind.A, Kind.B], [Kind.EMBEDDING_A, Kind.EMBEDDING_B], [Kind.MLX_A, Kind.MLX_B])
_FACTORS = [kind for pair in _PAIRS for kind in pair]
_SHARDED = (
    "a sharded trainer (DeepSpeed ZeRO-3, FSDP) held the values elsewhere while they were saved, and they are not in "
    "the file; save again with stage3_gather_16bit_weights_on_model_save, or gather the training checkpoint with its "
    "zero_to_fp32.py"
)


@dataclass(frozen=True)
class Note:
    """What was done with an adapter's file that its user should know, in the words of a warning."""

    what: str
    expected: str
    found: str
    advice: str


class Parts:
    """What an adapter's tensors do to a base's."""

    def __init__(self, config: Mapping[str, Any], stored: Checkpoint, base: Checkpoint, *, values: bool = True) -> None:
        """Reads them.

        Args:
            config: the content of adapter_config.json.
            stored: the adapter's own file.
            base: that it was trained on.
            values: whether there are any to compare, not headers only.
        """
        self._config, self._stored, self._base = config, stored, base
        self._rows = vocabulary_rows(base.tensors)
        self.low_rank: dict[str, LowRank] = {}
        self.whole: dict[str, str] = {}
        self.resized: dict[str, TensorInfo] = {}
        """Tensors with one row for each token, where it has tokens of its own."""
        self.faults: list[str] = []
        """Each with what to do."""
        self.misfits: list[str] = []
        """What another base would mend."""
        self.notes: list[Note] = []
        names = Names(base.tensors)
        keys = {name: read_key(name, names) for name in stored.tensors}
        self._check_adapters(keys)
        keys = self._present(keys)
        if base.tied and not self.faults:
            head = TiedHead(config, stored, base, keys, values=values)
            keys = head.without_head
            self.faults += head.faults
            if head.carries:
                self.notes.append(
                    Note(
                        "factors of the embedding, which is the head too",
                        "factors of both",
                        head.carries,
                        "the head changes with the embedding, as by PEFT's merge_and_unload but not as it was "
                        f"trained; to leave it, {untied(base)}",
                    )
                )
        if not self.faults:
            self._add(keys)

    @property
    def rows(self) -> int | None:
        """Rows of the adapter's vocabulary where they are not as many as the base's."""
        return vocabulary_rows(self.resized)

    def _present(self, keys: Mapping[str, Key]) -> dict[str, Key]:
        """Leaves out placeholders of what a sharded trainer held elsewhere where they stand for the base's own."""
        empty = {name: key for name, key in keys.items() if self._stored.tensors[name].shape == (0,)}
        own = {
            name
            for name, key in empty.items()
            if key.kind in OF_BASE or (key.kind is Kind.WHOLE and not is_saved_whole(self._config, key.module))
        }
        if lost := [name for name in empty if name not in own]:
            self.faults.append(f"{len(lost)} of its tensors, such as {lost[0]!r}, have shape [0]: {_SHARDED}")
        if own:
            self.notes.append(
                Note(
                    "tensors of shape [0]",
                    "none",
                    ", ".join(sorted(own)[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else ""),
                    "a sharded trainer left them for what it did not train; the base's are taken",
                )
            )
        return {name: key for name, key in keys.items() if name not in empty}

    def _check_adapters(self, keys: Mapping[str, Key]) -> None:
        if len(names := sorted({key.adapter for key in keys.values() if key.adapter is not None})) > 1:
            self.faults.append(
                f"holds several adapters ({', '.join(names)}), expected one; save the one that is meant with PEFT's "
                f"save_pretrained(FOLDER, selected_adapters=[{names[0]!r}])",
            )

    def _check_resized(self) -> None:
        wanted = [name for name, info in self._base.tensors.items() if has_row_a_token(name, info, self._rows)]
        if self.resized and (
            {info.shape[0] for info in self.resized.values()} != {self.rows} or self.resized.keys() != {*wanted}
        ):
            self.misfits.append(
                f"has resized {', '.join(self.resized)}, expected {', '.join(wanted)}, all to as many rows"
            )

    def _add(self, keys: Mapping[str, Key]) -> None:
        factors: dict[str, dict[str, str]] = {}
        for name, key in keys.items():
            if key.kind in _FACTORS:
                self._add_factor(factors.setdefault(key.target, {}), key, name)
            elif key.kind is Kind.UNKNOWN:
                self.faults.append(
                    f"tensor {name!r} is no factor of a low-rank product; {expand(self._stored.folder, self._config)}"
                )
            elif key.kind is Kind.ORIGINAL:
                self._check_original(name, key.target)
            else:
                self._add_whole(name, key)
        for target, names in factors.items():
            self._add_product(target, keys[next(iter(names.values()))].module, names)
        self._check_resized()

    def _check_original(self, name: str, target: str) -> None:
        if self._of_base(target) and not _same(self._stored.tensor(name), self._base.tensor(target)):
            self.misfits.append(f"tensor {name!r} is {target!r} as it was before the training, and not this base's")

    def _add_whole(self, name: str, key: Key) -> None:
        if (info := self._of_base(key.target)) is None:
            return
        theirs, beside = self._stored.tensors[name], key.kind is Kind.BASE_LAYER
        by_token = (
            has_row_a_token(key.target, info, self._rows)
            and theirs.shape[1:] == info.shape[1:]
            and theirs.shape != info.shape
        )
        if not theirs.dtype.is_floating_point or (theirs.shape != info.shape and (beside or not by_token)):
            advice = "; merge it into a full checkpoint with PEFT's merge_and_unload" if by_token and beside else ""
            self.misfits.append(f"tensor {name!r} has shape {list(theirs.shape)}, the base {list(info.shape)}{advice}")
        elif beside and _same(self._stored.tensor(name), self._base.tensor(key.target)):
            pass  # PEFT stores an embedding that it adapts beside the factors; it is the base's own
        elif key.target in self.whole:
            self.faults.append(f"changes {key.target!r} twice, by {self.whole[key.target]!r} and {name!r}; remove one")
        else:
            self.whole[key.target] = name
            self.resized |= {key.target: theirs} if by_token else {}

    def _add_factor(self, factors: dict[str, str], key: Key, name: str) -> None:
        if key.kind in factors:
            self.faults.append(
                f"has the factor {key.kind} of {key.target!r} twice, {factors[key.kind]!r} and {name!r}; remove one"
            )
        factors[key.kind] = name

    def _add_product(self, target: str, module: str, names: Mapping[str, str]) -> None:
        pair = next((pair for pair in _PAIRS if sorted(names) == pair), None)
        if pair is None:
            wanted = " and ".join(next((pair for pair in _PAIRS if {*names} & {*pair}), _PAIRS[0]))
            self.faults.append(
                f"module {module!r} has the factors {', '.join(sorted(names))}, expected {wanted}; fetch it again"
            )
            return
        if (info := self._of_base(target)) is None:
            return
        a, b = (self._stored.tensor(names[part]) for part in pair)
        left, right = self._oriented(pair[0], a, b, target)
        if (
            left.ndim != 2
            or right.ndim != 2
            or left.shape[1] != right.shape[0]
            or not right.shape[0]
            or not (a.is_floating_point() and b.is_floating_point())
        ):
            mlx = f"; {expand(self._stored.folder, self._config)}" if pair[0] is Kind.MLX_A else ""
            self.faults.append(
                f"module {module!r} has factors of shapes {list(a.shape)} and {list(b.shape)}, expected (rank, n) "
                f"and (m, rank){mlx}"
            )
            return
        rank = rank_of(self._config, module)
        if right.shape[0] != rank:
            self.faults.append(f"module {module!r} has factors of rank {right.shape[0]}, {ADAPTER} says {rank}")
        elif (left.shape[0], right.shape[1]) != info.shape:
            self.misfits.append(
                f"module {module!r} has a product of shape {[left.shape[0], right.shape[1]]}, the base's tensor has "
                f"{list(info.shape)}"
            )
        elif target in self.whole:
            self.faults.append(f"module {module!r} has both a product and a tensor of its own; remove one")
        else:
            self.low_rank[target] = LowRank(left, right, scale_of(self._config, module))

    def _oriented(self, kind: Kind, a: Tensor, b: Tensor, target: str) -> tuple[Tensor, Tensor]:
        """Returns factors as (rows, rank) and (rank, columns) of the base's tensor."""
        if kind is Kind.MLX_A:
            return (a, b) if is_embedding(target) else (b.t() if b.ndim == 2 else b, a.t() if a.ndim == 2 else a)
        turned = kind is Kind.EMBEDDING_A or self._config.get("fan_in_fan_out")
        return (a.t(), b.t()) if turned and a.ndim == b.ndim == 2 else (b, a)

    def _of_base(self, name: str) -> TensorInfo | None:
        if name not in self._base.tensors:
            self.misfits.append(f"changes {name!r}, which the base has not")
        return self._base.tensors.get(name)


def _same(one: Tensor, base: Tensor) -> bool:
    return one.shape == base.shape and torch.equal(one.to(base.dtype), base)
