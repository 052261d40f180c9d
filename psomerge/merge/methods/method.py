"""What a merge method is: a name, parameters, the recipe that it makes of weights, and how that becomes tensors.

The command line asks for names and parameters: nothing here imports torch before a tensor is made.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from psomerge.errors import ConfigError, nearest
from psomerge.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from psomerge.merge.basis import Basis


@dataclass(frozen=True)
class Parameter:
    """A number that a method takes beside the experts' weights."""

    name: str
    default: float
    help: str
    low: float = -math.inf
    high: float = math.inf
    with_low: bool = False
    """Whether it may be `low` itself."""
    with_high: bool = False

    def __str__(self) -> str:
        bounds = "" if math.isinf(self.low) and math.isinf(self.high) else f" in {self.interval}"
        return f"{self.name}={self.default:g}{bounds}, {self.help}"

    @property
    def interval(self) -> str:
        """The values that it may have, e.g. `(0, 1]`."""
        return f"{'[' if self.with_low else '('}{self.low:g}, {self.high:g}{']' if self.with_high else ')'}"

    def misfit(self, value: object) -> str:
        """Returns what is wrong with a value; empty where nothing is."""
        ends = [end for end, allowed in ((self.low, self.with_low), (self.high, self.with_high)) if allowed]
        if isinstance(value, int | float) and (self.low < value < self.high or value in ends):
            return ""
        return f"{self.name} must lie in {self.interval}, found {value!r}"


@dataclass(frozen=True)
class Grid:
    """The settings of a method that are tried where it is tuned as a baseline."""

    baseline: str
    """What configs call it."""
    label: str
    """What reports call one setting: a format of the parameters."""
    settings: tuple[Mapping[str, float], ...] = ({},)
    """At most 9; a parameter that is not given has its default."""


class Form(Protocol):
    """What a recipe's `method` names where the model is not linear in the coefficients."""

    @property
    def name(self) -> str:
        """In recipes."""
        ...

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What its recipes hold under `parameters`, each of them."""
        ...

    def misfit(self, recipe: Recipe) -> str:
        """Returns what is wrong with a recipe whose parameters are sound; empty where nothing is."""
        ...

    def tensor(self, basis: "Basis", recipe: Recipe, name: str, rows: slice | None) -> "Tensor":
        """Returns one merged tensor, or a range of its rows alone with the same bits, float32.

        Args:
            basis: base and experts, opened.
            recipe: of this form, checked.
            name: of the tensor.
            rows: range of dimension 0, None for all.
        """
        ...


class Method(Protocol):
    """How experts become one model, as users name it."""

    @property
    def name(self) -> str:
        """On the command line."""
        ...

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What users may set."""
        ...

    @property
    def grid(self) -> Grid | None:
        """None where it is no baseline."""
        ...

    @property
    def form(self) -> Form | None:
        """What its recipes are; None where the model is linear in the coefficients: the basis makes it in one pass."""
        ...

    def recipe(self, plain: Recipe, weights: Sequence[float], **parameters: float) -> Recipe:
        """Returns the recipe of a merge.

        Args:
            plain: with the experts.
            weights: one each.
            parameters: those that are not to have their default.

        Raises:
            ConfigError: an unknown parameter, or numbers that the method cannot have.
        """
        ...


def settled(method: Method, given: Mapping[str, float]) -> dict[str, float]:
    """Returns all parameters of a method, as given or by default. Raises ConfigError for one that is unknown or out of
    bounds."""
    values = {one.name: one.default for one in method.parameters} | dict(given)
    if wrong := parameters_misfit(method.parameters, values):
        raise ConfigError(f"{method.name}: {wrong}")
    return values


def parameters_misfit(parameters: Sequence[Parameter], values: Mapping[str, object]) -> str:
    """Returns the first thing that is wrong with the values of all parameters; empty where nothing is."""
    known = [one.name for one in parameters]
    for name in values:
        if name not in known:
            return f"unknown parameter {name!r}{nearest(name, known)}"
    for one in parameters:
        if one.name not in values:
            return f"parameter {one.name!r} is missing"
        if wrong := one.misfit(values[one.name]):
            return wrong
    return ""
