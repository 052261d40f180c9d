"""The weighted average of the experts."""

from collections.abc import Sequence

from psomerge.errors import ConfigError
from psomerge.merge.methods.method import Grid, Parameter, settled
from psomerge.recipe import Recipe


class Linear:
    """theta = sum_i w_i theta_i / sum_i w_i. A sum of zero is refused."""

    name, form = "linear", None
    parameters: tuple[Parameter, ...] = ()
    grid = Grid("average", "plain average")

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        """As of `Method`."""
        settled(self, parameters)
        total = sum(weights)
        if total == 0:
            raise ConfigError(
                "linear: the weights sum to 0, so they cannot be normalised; give weights with another sum"
            )
        return plain.with_coefficients([[weight / total for weight in weights]])
