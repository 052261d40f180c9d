"""LoRA adapters of PEFT and MLX as experts: the base, plus a product of two thin matrices in some of its tensors. Never
written out: a product is made with its tensor.

Taken are sums of low-rank products (plain and rank-stabilised LoRA, of linear layers, embeddings and transposed layers,
with ranks and alphas by pattern) and tensors that were trained whole (`modules_to_save`, biases). What else PEFT can do
is no sum of the base and a product, and is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from psomerge.arithmetic.low_rank import LowRank
from psomerge.checkpoint.adapter_config import read_adapter_config
from psomerge.checkpoint.adapter_parts import Note, Parts
from psomerge.checkpoint.config import resized_config
from psomerge.checkpoint.reader import Checkpoint, map_file
from psomerge.errors import ArtefactError
from psomerge.files.names import ADAPTER, INDEX, adapter_weights
from psomerge.files.untrusted import listing
from psomerge.screening.companions import check_companions

MAX_LISTED = 8


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
    """The adapter's own file, with the content of adapter_config.json as its config."""
    notes: tuple[Note, ...] = field(default=(), repr=False, kw_only=True)
    """What was done with its file that a user should know."""

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
        folder: with adapter_config.json and adapter_model.safetensors, as PEFT's save_pretrained writes it and trainers
            around it do, or with adapters.safetensors, as MLX's trainer writes it.
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
    weights = adapter_weights(files)
    if weights not in files:
        pickled = (
            "; adapter_model.bin is a pickle, which can run code and is never opened: convert it with PEFT"
            if "adapter_model.bin" in files
            else ""
        )
        raise ArtefactError(f"{folder}: has no {weights}{pickled}")
    mapped, stamp, tensors = map_file(folder / weights)
    stored = Checkpoint(
        folder,
        name or folder.resolve().name,
        config,
        tensors,
        files,
        False,
        {weights: mapped},
        {weights: stamp},
    )
    return adapter_of(stored, base)


def adapter_of(stored: Checkpoint, base: Checkpoint, *, values: bool = True) -> Adapter:
    """Returns the checkpoint that an adapter's own file, with the content of adapter_config.json as its config, makes
    of a base.

    Args:
        stored: the adapter's own file.
        base: that it was trained on.
        values: whether both have values, or one has headers only.

    Raises:
        ArtefactError: as `open_adapter`, where it does not fit the base.
    """
    parts = Parts(stored.config, stored, base, values=values)
    if faults := [*parts.faults, *parts.misfits]:
        more = f"; {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        advice = "; give the base that it was trained on" if parts.misfits else ""
        raise ArtefactError(
            f'adapter "{stored.name}" ({stored.folder}): {"; ".join(faults[:MAX_LISTED])}{more}{advice}'
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
        notes=tuple(parts.notes),
    )
