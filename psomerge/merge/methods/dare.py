"""DARE: task arithmetic on task vectors that lost most of their entries at random."""

from collections.abc import Sequence
from dataclasses import replace

from psomerge.merge.methods.method import Parameter, settled
from psomerge.merge.methods.task_arithmetic import SCALE
from psomerge.recipe import Recipe


class Dare:
    """theta_0 + scale sum_i w_i m_i tau_i / (1 - p), m_i ~ Bernoulli(1 - p), p the drop rate. Source: arXiv 2311.03099,
    section 3."""

    name, form, grid = "dare", None, None
    parameters = (
        SCALE,
        Parameter("drop_rate", Recipe.drop_rate, "the share of entries that the masks remove", 0, 1, with_low=True),
    )

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        """As of `Method`."""
        settings = settled(self, parameters)
        row = [0.0] * len(weights) + [settings["scale"] * weight for weight in weights]
        return replace(plain.with_coefficients([row]), drop_rate=settings["drop_rate"])
