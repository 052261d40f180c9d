"""Task arithmetic: the base plus the sum of the experts' task vectors."""

from collections.abc import Sequence

from psomerge.merge.methods.method import Grid, Parameter, settled
from psomerge.recipe import Recipe

SCALE = Parameter("scale", 1.0, "what the merged task vector is multiplied by")


class TaskArithmetic:
    """theta_0 + scale sum_i w_i tau_i. Source: arXiv 2212.04089, section 2."""

    name, form = "task_arithmetic", None
    parameters = (SCALE,)
    grid = Grid(
        "task_arithmetic",
        "task arithmetic (scale {scale:g})",
        tuple({"scale": scale} for scale in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2)),
    )

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        """As of `Method`."""
        scale = settled(self, parameters)["scale"]
        return plain.with_coefficients([[scale * weight for weight in weights]])
