"""The basis of a search: the base, its experts, and how coefficients become tensors, one at a time.

Holds mapped files, no copies: peak memory of making a model is one tensor of every shape and the next few, whatever the
number of particles.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from psomerge.arithmetic.fused import Workspace, merge_compiled, merge_eager
from psomerge.arithmetic.low_rank import LowRank, weighted_sum
from psomerge.arithmetic.masks import keep_threshold, mask_keys
from psomerge.checkpoint.adapter import Adapter, is_adapter, open_adapter
from psomerge.checkpoint.layout import laid_out
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.merge.grouping import groups
from psomerge.merge.methods.method import Form
from psomerge.merge.methods.table import form_of
from psomerge.recipe import Recipe
from psomerge.vocabulary.aligned import align, blocks
from psomerge.vocabulary.merged_vocabulary import Union

COMPILE_FROM = 2**25
"""Parameters of a model from which compiling the pass (20 s, once) pays in a search; smaller ones run eagerly."""

AHEAD = 4
"""Tensors made before the caller asks for them: one large one among small ones keeps neither side waiting."""

_BLOCK = 2**32

Made = TypeVar("Made")


def _result(started: tuple[str, Future[Tensor]]) -> tuple[str, Tensor]:
    return started[0], started[1].result()


class Basis:
    """Base and experts, opened; makes any recipe's tensors, or any range of their rows alone with the same bits."""

    def __init__(
        self, base: Checkpoint, experts: Sequence[Checkpoint], *, compiled: bool = False, union: Union | None = None
    ) -> None:
        self.base = base
        self.experts = tuple(experts)
        self.union = union
        self._compiled = compiled
        self._workspace = Workspace()
        # A model has hundreds of small tensors: what every particle needs again is made once.
        self._views: dict[str, list[Tensor]] = {}
        self._made: dict[tuple[object, ...], Any] = {}

    @property
    def vocabulary(self) -> str:
        """As of `Recipe.vocabulary`."""
        return self.union.digest if self.union else ""

    def tokenizer(self, tokenizer_from: str) -> str:
        """Returns words for the merged model's tokenizer."""
        return f"that of {tokenizer_from}" + (f", {self.union}" if self.union else "")

    def named(self, name: str) -> Checkpoint:
        """Returns the base or an expert by its name. Raises ArtefactError where there is none of it."""
        found = {one.name: one for one in (self.base, *self.experts)}
        if name not in found:
            raise ArtefactError(f"no model is called {name!r}; expected one of {', '.join(found)}")
        return found[name]

    def parameters(self) -> int:
        """Returns the number of elements of one model."""
        return sum(torch.Size(info.shape).numel() for info in self.base.tensors.values())

    def check_unchanged(self) -> None:
        """Raises ArtefactError, naming the file, if weights of base or experts changed since they were opened."""
        for checkpoint in (self.base, *self.experts):
            checkpoint.check_unchanged()

    def merged_tensors(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in layer order, each in the recipe's dtype.

        A tensor is the caller's for as long as it is held; its memory is used again when it is not, so a caller that
        lets go of each is served faster.

        Raises:
            ArtefactError: the recipe's method or coefficients do not fit this basis.
        """
        rows, form = self._rows(recipe), form_of(recipe)
        weights = [self._weights(recipe, row) for row in recipe.coefficients]
        made = (
            (name, partial(self._tensor, recipe, form, name, weights[rows[name]], None)) for name in self.base.tensors
        )
        if self._compiled or torch.get_num_threads() == 1:
            yield from ((name, make()) for name, make in made)
            return
        # The eager pass runs on one core: with a second one the next tensors are made while the caller writes or loads
        # this one.
        with ThreadPoolExecutor(max_workers=1) as pool:
            started: deque[tuple[str, Future[Tensor]]] = deque()
            for name, make in made:
                started.append((name, pool.submit(make)))
                if len(started) > AHEAD:
                    yield _result(started.popleft())
            while started:
                yield _result(started.popleft())

    def merged_tensor(self, recipe: Recipe, name: str, rows: slice | None = None) -> Tensor:
        """Returns one tensor, or the given rows of it (a range of dimension 0), in the recipe's dtype. Raises as
        `merged_tensors`."""
        weights = self._weights(recipe, self.coefficients(recipe, name))
        return self._tensor(recipe, form_of(recipe), name, weights, rows)

    def coefficients(self, recipe: Recipe, name: str) -> tuple[float, ...]:
        """Returns the row of a recipe's coefficients that a tensor has. Raises as `merged_tensors`."""
        return recipe.coefficients[self._rows(recipe)[name]]

    def once(self, key: tuple[object, ...], make: Callable[[], Made]) -> Made:
        """Returns what `make` gave when it was first asked for under this key: what many recipes need."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _rows(self, recipe: Recipe) -> dict[str, int]:
        names = [expert.name for expert in recipe.experts]
        if names != [expert.name for expert in self.experts]:
            raise ArtefactError(
                f"the recipe merges experts {names}, this basis holds {[expert.name for expert in self.experts]}"
            )
        if recipe.vocabulary != self.vocabulary:
            said, found = (
                f"of digest {one[:12]}..." if one else "row by row" for one in (recipe.vocabulary, self.vocabulary)
            )
            raise ArtefactError(
                f"the recipe merges vocabularies {said}, these checkpoints {found}; use the files that it pins, and "
                "the psomerge that wrote it"
            )
        rows = self.once(("groups", recipe.grouping), lambda: groups(list(self.base.tensors), recipe.grouping))
        wanted = max(rows.values()) + 1
        if len(recipe.coefficients) != wanted:
            raise ArtefactError(
                f"grouping {recipe.grouping!r} of this model has {wanted} groups, the recipe has "
                f"{len(recipe.coefficients)} rows of coefficients"
            )
        return rows

    def _tensor(self, recipe: Recipe, form: Form | None, name: str, weights: Tensor, rows: slice | None) -> Tensor:
        info = self.base.tensors[name]
        if not info.dtype.is_floating_point:
            return self.base.tensor(
                name, rows
            )  # integer buffers are equal in base and experts: the fit check saw to that
        dtype = info.dtype if recipe.dtype == "base" else getattr(torch, recipe.dtype)
        if form:
            return form.tensor(self, recipe, name, rows).to(dtype)
        rows = rows and slice(*rows.indices(info.shape[0])[:2])
        begin, end = (rows.start, max(rows.start, rows.stop)) if rows else (0, info.shape[0] if info.shape else 1)
        shape = (end - begin, *info.shape[1:]) if info.shape else ()
        out = self._workspace.empty(torch.Size(shape).numel(), dtype)
        width = torch.Size(info.shape[1:]).numel()
        for piece in blocks(self.base, name, rows):
            self._fill(
                recipe,
                name,
                weights,
                piece,
                out[(piece.start - begin) * width : (piece.stop - begin) * width] if piece else out,
            )
        return out.view(shape)

    def _fill(self, recipe: Recipe, name: str, weights: Tensor, rows: slice | None, out: Tensor) -> None:
        """Writes a tensor, or a range of its rows, flattened into `out`."""
        stored = [place for place, one in enumerate(self.experts) if not isinstance(one, Adapter) or name in one.whole]
        flat, low_rank = self._flat(name, rows, stored), self._low_rank(name)
        info = self.base.tensors[name]
        begin, width = 0 if rows is None else rows.start or 0, torch.Size(info.shape[1:]).numel()
        keys = (
            partial(self._mask_keys, recipe, name, [*stored, *low_rank])
            if max(map(len, recipe.coefficients)) > len(self.experts)
            else None
        )
        if low_rank:
            chosen = weights[:, [*stored, *low_rank]]
            if not chosen[1].any():  # no mask counts: one product for all of them
                total = weighted_sum(list(low_rank.values()), [float(weight) for weight in weights[0, [*low_rank]]])
                low_rank, chosen, keys = (
                    {-1: total},
                    torch.cat([weights[:, stored], torch.tensor([[1.0], [0.0]])], 1),
                    None,
                )
            for parts in zip(*(one.blocks(rows) for one in low_rank.values()), strict=True):
                piece = slice((parts[0][0] - begin) * width, (parts[0][0] - begin) * width + parts[0][1].numel())
                products = [block.view(-1) for _, block in parts]
                self._merge(
                    [*(one[piece] for one in flat), *products],
                    chosen,
                    keys,
                    begin * width + piece.start,
                    out[piece],
                    len(products),
                )
        else:
            self._merge(
                flat,
                weights if len(stored) == len(self.experts) else weights[:, stored],
                keys if stored else None,
                begin * width,
                out,
            )

    def _merge(
        self,
        flat: Sequence[Tensor],
        weights: Tensor,
        keys: Callable[[int], Tensor] | None,
        start: int,
        out: Tensor,
        products: int = 0,
    ) -> None:
        """Runs the pass over flat pieces of a tensor from element `start` on, block by block of 2**32 elements, which
        have mask keys of their own."""
        merge = merge_compiled if self._compiled and len(flat) > 1 else merge_eager
        first, last = start // _BLOCK, (start + max(out.numel(), 1) - 1) // _BLOCK
        for block in range(first, last + 1):
            piece = slice(max(0, block * _BLOCK - start), max(0, (block + 1) * _BLOCK - start))
            inside, into = (flat, out) if first == last else ([one[piece] for one in flat], out[piece])
            merge(inside, weights, keys(block) if keys else None, start + piece.start, into, products)

    def _low_rank(self, name: str) -> dict[int, LowRank]:
        """The products that adapters add to a tensor, by their places among the experts."""
        return {
            place: one.low_rank[name]
            for place, one in enumerate(self.experts)
            if isinstance(one, Adapter) and name in one.low_rank
        }

    def _flat(self, name: str, rows: slice | None, stored: Sequence[int]) -> list[Tensor]:
        """The elements of a tensor of the base and of the experts at these places, flattened views on the mapped
        files."""
        if rows is None and name in self._views:
            return self._views[name]
        models = [self.base, *(self.experts[place] for place in stored)]
        flat = [one.tensor(name, rows).reshape(-1) for one in models]
        views = [
            one.stored.is_view(one.whole[name]) if isinstance(one, Adapter) else one.is_view(name) for one in models
        ]
        if rows is None and all(views):
            self._views[name] = flat
        return flat

    def _weights(self, recipe: Recipe, coefficients: Sequence[float]) -> Tensor:
        n = len(self.experts)
        copies = [b / (1 - recipe.drop_rate) for b in coefficients[n:]] or [0.0] * n
        return (
            torch.tensor([list(coefficients[:n]), copies], dtype=torch.float64).float() + 0.0
        )  # the pass wants no -0.0

    def _mask_keys(self, recipe: Recipe, name: str, experts: Sequence[int], block: int) -> Tensor:
        def made() -> Tensor:
            pairs = [mask_keys(recipe.mask_seed, self.experts[number].name, name, block) for number in experts]
            threshold = keep_threshold(recipe.drop_rate)
            return torch.tensor([pairs[0][0], threshold, *(second for _, second in pairs)], dtype=torch.int32)

        return self.once(("masks", recipe.mask_seed, recipe.drop_rate, name, block, *experts), made)


def open_basis(folders: Mapping[str, Path], tokenizer_from: str = "base", *, compiled: bool | None = None) -> Basis:
    """Returns the basis of local folders that were found to fit, `base` among them; the other keys are the experts'
    names, in the recipe's order. A tensor that an expert lacks is the base's.

    Args:
        folders: local folder by name.
        tokenizer_from: name of the model whose tokenizer the merged one gets.
        compiled: whether to compile the merge pass; None decides by the size of the model.

    Raises:
        ArtefactError: a folder is no sound checkpoint, or no adapter of the base.
    """
    base = open_checkpoint(folders["base"], "base")
    experts = [open_expert(folder, name, base) for name, folder in folders.items() if name != "base"]
    return basis_of(base, experts, tokenizer_from, compiled=compiled)


def basis_of(
    base: Checkpoint, experts: Sequence[Checkpoint], tokenizer_from: str, *, compiled: bool | None = None
) -> Basis:
    """Returns the basis of opened checkpoints, their vocabularies aligned; arguments and errors as `open_basis`."""
    common, own, union = align(base, experts, Basis(base, experts).named(tokenizer_from))
    large = Basis(common, own).parameters() >= COMPILE_FROM
    return Basis(common, own, compiled=large if compiled is None else compiled, union=union)


def open_expert(folder: Path, name: str, base: Checkpoint) -> Checkpoint:
    """Returns the checkpoint in a folder by the base's names, or what the adapter there makes of the base. Raises
    ArtefactError as `open_checkpoint` and `open_adapter`."""
    return open_adapter(folder, base, name) if is_adapter(folder) else laid_out(open_checkpoint(folder, name), base)
