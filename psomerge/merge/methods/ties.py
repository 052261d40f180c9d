"""TIES merging: trim, elect a sign, average what agrees."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from psomerge.errors import ConfigError
from psomerge.merge.methods.method import Grid, Parameter, settled
from psomerge.merge.methods.task_arithmetic import SCALE
from psomerge.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from psomerge.merge.basis import Basis


class Ties:
    """theta_0 + scale tau, tau the disjoint mean of the trimmed task vectors. Weights act in the mean only, never in
    the election; negative ones are refused.

    Source: TIES-Merging (arXiv 2306.01708), section 4. We trim each tensor by itself, the authors' code the whole model
    at once.
    """

    name = "ties"
    parameters = (
        Parameter("density", 0.2, "the share of entries that trimming keeps", 0, 1, with_high=True),
        SCALE,
    )
    # A disjoint mean is smaller than a sum: larger scales than task arithmetic's.
    grid = Grid(
        "ties",
        "TIES (density {density:g}, scale {scale:g})",
        tuple({"density": density, "scale": scale} for density in (0.2, 0.5) for scale in (0.5, 1.0, 1.5, 2.0)),
    )

    @property
    def form(self) -> "Ties":
        """As of `Method`."""
        return self

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        """As of `Method`."""
        settings = settled(self, parameters)
        recipe = replace(plain, method=self.name, coefficients=(tuple(weights),), grouping="model", parameters=settings)
        if wrong := self.misfit(recipe):
            raise ConfigError(f"ties: {wrong}")
        return recipe

    def misfit(self, recipe: Recipe) -> str:
        """As of `Form`."""
        for row in recipe.coefficients:
            if len(row) != len(recipe.experts):
                return f"{len(recipe.experts)} experts need as many weights, found {len(row)}"
            if row and min(row) < 0:
                return f"weights must not be negative, found {min(row)}"
        return ""

    def tensor(self, basis: "Basis", recipe: Recipe, name: str, rows: slice | None) -> "Tensor":
        """As of `Form`."""
        import torch

        from psomerge.merge.methods.steps import disjoint_mean, elect, merged_task_vector, trim, trim_thresholds

        thresholds = trim_thresholds(basis, name, recipe.parameters["density"])
        weights = basis.coefficients(recipe, name)

        def merge(deltas: Sequence["Tensor"]) -> "Tensor":
            trimmed = [trim(delta, threshold) for delta, threshold in zip(deltas, thresholds, strict=True)]
            return disjoint_mean(trimmed, elect(trimmed), weights)

        scale = torch.tensor(recipe.parameters["scale"], dtype=torch.float32)
        return basis.base.tensor(name, rows).float() + scale * merged_task_vector(basis, name, rows, merge)
