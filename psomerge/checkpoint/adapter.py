"""LoRA adapters of PEFT as experts: the base, plus a product of two thin matrices in some of its tensors. Never written
out: a product is made with its tensor.

Taken are sums of low-rank products (plain and rank-stabilised LoRA, of linear layers, embeddings and transposed layers,
with ranks and alphas by pattern) and tensors that were trained whole (`modules_to_save`, biases). What else PEFT can do
is no sum of the base and a product, and is refused.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from psomerge.arithmetic.low_rank import LowRank
from psomerge.checkpoint.adapter_config import by_pattern, read_adapter_config
from psomerge.checkpoint.config import resized_config
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.layers import has_row_a_token, is_embedding, is_head, vocabulary_rows
from psomerge.checkpoint.reader import Checkpoint, map_file
from psomerge.errors import ArtefactError
from psomerge.files.untrusted import ADAPTER, ADAPTER_WEIGHTS, INDEX, listing
from psomerge.screening.companions import check_companions

MAX_LISTED = 8
_ANOTHER_BASE = "give the base that it was trained on"
_PREFIX = "base_model.model."
_PARTS = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "embedding A",
    ".lora_embedding_B": "embedding B",
}


@dataclass(frozen=True, eq=False)
class Adapter(Checkpoint):
    """A base's checkpoint as an adapter would make it; `folder` and `files` are its own, `tied` the base's, so `config`
    and `tensors` but for resized rows."""

    base: Checkpoint = field(repr=False, kw_only=True)
    low_rank: Mapping[str, LowRank] = field(repr=False, kw_only=True)
    """By the base's tensor."""
    whole: Mapping[str, str] = field(repr=False, kw_only=True)
    """Name in the adapter's file of each tensor of the base that it replaces."""
    stored: Checkpoint = field(repr=False, kw_only=True)
    """The adapter's own file."""

    def tensor(self, name: str, rows: slice | None = None) -> Tensor:
        """Returns a tensor of base and adapter together: a new float32 one where a product is added, else a view;
        arguments and errors as `Checkpoint`."""
        if name in self.low_rank:
            return self.low_rank[name].product(rows).add_(self.base.tensor(name, rows).float())
        if name not in self.whole:
            return self.base.tensor(name, rows)
        found = self.stored.tensor(self.whole[name])
        return found if rows is None else found[rows]

    def check_unchanged(self) -> None:
        """Raises ArtefactError if the adapter's file was written to or exchanged since it was opened."""
        self.stored.check_unchanged()


def task_vector(
    base: Checkpoint, expert: Checkpoint, name: str, rows: slice | None = None
) -> Callable[[slice], Tensor]:
    """Returns what gives any piece (n,) float32 of an expert's task vector in one tensor, or a range of its rows,
    flattened."""
    if isinstance(expert, Adapter) and name in expert.low_rank:
        flat = expert.low_rank[name].product(rows).reshape(-1)
        return lambda piece: flat[piece]
    ours, theirs = (one.tensor(name, rows).reshape(-1) for one in (base, expert))
    return lambda piece: theirs[piece] - ours[piece].float()


def is_adapter(folder: Path) -> bool:
    """Returns whether a folder holds an adapter. Raises ArtefactError as `listing`."""
    return ADAPTER in listing(folder)


def open_adapter(folder: Path, base: Checkpoint, name: str = "") -> Adapter:
    """Returns an adapter as the checkpoint that it makes of its base.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes it.
        base: that it was trained on.
        name: that messages and recipes use; the folder's own name if empty.

    Raises:
        ArtefactError: something is missing, damaged or no low-rank sum, or does not fit the base; the text says what
            and where.
    """
    folder = Path(folder)
    files = listing(folder)
    if both := [file for file in ("model.safetensors", INDEX) if file in files]:
        raise ArtefactError(
            f"{folder}: holds both an adapter ({ADAPTER}) and a checkpoint ({both[0]}); remove the one that is not "
            "meant"
        )
    config = read_adapter_config(folder)
    check_companions(folder, files)
    if ADAPTER_WEIGHTS not in files:
        pickled = (
            "; adapter_model.bin is a pickle, which can run code and is never opened: convert it with PEFT"
            if "adapter_model.bin" in files
            else ""
        )
        raise ArtefactError(f"{folder}: has no {ADAPTER_WEIGHTS}{pickled}")
    mapped, stamp, tensors = map_file(folder / ADAPTER_WEIGHTS)
    stored = Checkpoint(
        folder,
        name or folder.resolve().name,
        config,
        tensors,
        files,
        False,
        {ADAPTER_WEIGHTS: mapped},
        {ADAPTER_WEIGHTS: stamp},
    )
    return adapter_of(stored, base)


def adapter_of(stored: Checkpoint, base: Checkpoint) -> Adapter:
    """Returns the checkpoint that an adapter's own file, with the content of adapter_config.json as its config, makes
    of a base.

    Raises:
        ArtefactError: as `open_adapter`, where it does not fit the base.
    """
    parts = Parts(stored.config, stored, base)
    if parts.faults:
        more = f"; {len(parts.faults) - MAX_LISTED} more" if len(parts.faults) > MAX_LISTED else ""
        raise ArtefactError(
            f'adapter "{stored.name}" ({stored.folder}): {"; ".join(parts.faults[:MAX_LISTED])}{more}; {parts.remedy}'
        )
    return Adapter(
        **{field: getattr(base, field) for field in ("tied", "_maps", "_stamps")},
        config=MappingProxyType(resized_config(base.config, parts.rows)) if parts.rows else base.config,
        tensors=MappingProxyType({**base.tensors, **parts.resized}) if parts.rows else base.tensors,
        folder=stored.folder,
        name=stored.name,
        files=MappingProxyType(dict(stored.files)),
        base=base,
        low_rank=MappingProxyType(parts.low_rank),
        whole=MappingProxyType(parts.whole),
        stored=stored,
    )


class Parts:
    """What the tensors of an adapter's file do to the base's, and everything that is wrong with them."""

    def __init__(self, config: Mapping[str, Any], stored: Checkpoint, base: Checkpoint) -> None:
        self._config, self._stored, self._base = config, stored, base
        self._rows = vocabulary_rows(base.tensors)
        self.low_rank: dict[str, LowRank] = {}
        self.whole: dict[str, str] = {}
        self.resized: dict[str, TensorInfo] = {}
        """Tensors with one row for each token, where it has tokens of its own."""
        self.faults: list[str] = []
        self.remedy = (
            "the base is not at fault: save the adapter again with PEFT, or give the checkpoint that its "
            "merge_and_unload makes"
        )
        factors: dict[str, dict[str, str]] = {}
        for name in stored.tensors:
            if not name.startswith(_PREFIX):
                self.faults.append(f"tensor {name!r} does not begin with {_PREFIX!r}")
                continue
            end = next((end for end in _PARTS if name.endswith(end)), None)
            if end:
                factors.setdefault(name.removeprefix(_PREFIX).removesuffix(end), {})[_PARTS[end]] = name
            elif ".lora_" in name:
                self.faults.append(f"tensor {name!r} is no factor of a low-rank product")
            else:
                self._add_whole(name)
        for module, names in factors.items():
            self._add_product(module, names)
        self._check_resized()

    @property
    def rows(self) -> int | None:
        """Rows of the adapter's vocabulary where they are not as many as the base's."""
        return vocabulary_rows(self.resized)

    def _check_resized(self) -> None:
        wanted = [name for name, info in self._base.tensors.items() if has_row_a_token(name, info, self._rows)]
        if self.resized and (
            {info.shape[0] for info in self.resized.values()} != {self.rows} or self.resized.keys() != {*wanted}
        ):
            self.faults.append(
                f"has resized {', '.join(self.resized)}, expected {', '.join(wanted)}, all to as many rows"
            )

    def _add_whole(self, name: str) -> None:
        target = name.removeprefix(_PREFIX).replace(".modules_to_save.", ".").replace(".base_layer.", ".")
        if self._is_tied_copy(target) or (info := self._of_base(target)) is None:
            return
        theirs, beside = self._stored.tensors[name], ".base_layer." in name
        by_token = (
            has_row_a_token(target, info, self._rows)
            and theirs.shape[1:] == info.shape[1:]
            and theirs.shape != info.shape
        )
        if not theirs.dtype.is_floating_point or (theirs.shape != info.shape and (beside or not by_token)):
            advice = "; merge it into a full checkpoint with PEFT's merge_and_unload" if by_token and beside else ""
            self.faults.append(f"tensor {name!r} has shape {list(theirs.shape)}, the base {list(info.shape)}{advice}")
            self.remedy = self.remedy if by_token and beside else _ANOTHER_BASE
        elif beside and torch.equal(self._stored.tensor(name).float(), self._base.tensor(target).float()):
            pass  # PEFT stores an embedding that it adapts beside the factors; it is the base's own
        else:
            self.whole[target] = name
            self.resized |= {target: theirs} if by_token else {}

    def _is_tied_copy(self, target: str) -> bool:
        """Whether a tensor is the head of a base that has none of its own, stored as the embedding is."""
        embedding = f"{_PREFIX}{next((name for name in self._base.tensors if is_embedding(name)), '')}"
        head = _PREFIX + target
        return (
            self._base.tied
            and is_head(target)
            and {head, embedding} <= self._stored.tensors.keys()
            and torch.equal(self._stored.tensor(head), self._stored.tensor(embedding))
        )

    def _add_product(self, module: str, names: Mapping[str, str]) -> None:
        embedding = any(part.startswith("embedding") for part in names)
        wanted = ["embedding A", "embedding B"] if embedding else ["A", "B"]
        if sorted(names) != wanted:
            self.faults.append(
                f"module {module!r} has the factors {', '.join(sorted(names))}, expected {' and '.join(wanted)}"
            )
            return
        a, b = (self._stored.tensor(names[part]) for part in wanted)
        if (info := self._of_base(f"{module}.weight")) is None:
            return
        if (
            a.ndim != 2
            or b.ndim != 2
            or a.shape[0] != b.shape[1]
            or not a.shape[0]
            or not (a.is_floating_point() and b.is_floating_point())
        ):
            self.faults.append(
                f"module {module!r} has factors of shapes {list(a.shape)} and {list(b.shape)}, expected (rank, n) "
                "and (m, rank)"
            )
            return
        left, right = (a.t(), b.t()) if embedding or self._config.get("fan_in_fan_out") else (b, a)
        rank = by_pattern(self._config, "rank_pattern", module) or self._config["r"]
        if a.shape[0] != rank:
            self.faults.append(f"module {module!r} has factors of rank {a.shape[0]}, {ADAPTER} says {rank}")
        elif (left.shape[0], right.shape[1]) != info.shape:
            self.faults.append(
                f"module {module!r} has a product of shape {[left.shape[0], right.shape[1]]}, the base's tensor has "
                f"{list(info.shape)}"
            )
            self.remedy = _ANOTHER_BASE
        elif f"{module}.weight" in self.whole:
            self.faults.append(f"module {module!r} has both a product and a tensor of its own")
        else:
            # Source: arXiv 2106.09685, section 4.1, alpha / rank; rank-stabilised: arXiv 2312.03732, alpha /
            # sqrt(rank).
            alpha = by_pattern(self._config, "alpha_pattern", module) or self._config["lora_alpha"]
            self.low_rank[f"{module}.weight"] = LowRank(
                left, right, alpha / (math.sqrt(rank) if self._config.get("use_rslora") else rank)
            )

    def _of_base(self, name: str) -> TensorInfo | None:
        if name not in self._base.tensors:
            tied = " (its output head is the embedding)" if self._base.tied and "head" in name else ""
            self.faults.append(f"changes {name!r}, which the base has not{tied}")
            self.remedy = self.remedy if tied else _ANOTHER_BASE
        return self._base.tensors.get(name)
