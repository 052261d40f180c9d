"""The one table of merge methods. A new one is a file and a line here: the command line, its help, recipes and the
baselines that configs may name all ask this table."""

from psomerge.errors import ArtefactError
from psomerge.merge.methods.dare import Dare
from psomerge.merge.methods.linear import Linear
from psomerge.merge.methods.method import Form, Grid, Method, parameters_misfit
from psomerge.merge.methods.task_arithmetic import TaskArithmetic
from psomerge.merge.methods.ties import Ties
from psomerge.recipe import COEFFICIENTS, Recipe

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Linear(),
        TaskArithmetic(),
        Dare(),
        Ties(),
    )
}
"""By the name that the command line takes."""


def baselines() -> dict[str, tuple[Method, Grid]]:
    """Returns the methods that can be tuned as baselines and what is tried of each, by the name that configs give."""
    return {method.grid.baseline: (method, method.grid) for method in METHODS.values() if method.grid}


def form_of(recipe: Recipe, where: str = "recipe") -> Form | None:
    """Returns what makes a recipe's tensors, None for the basis's one pass over coefficients.

    Args:
        recipe: as read.
        where: its file, for messages.

    Raises:
        ArtefactError: an unknown method, or numbers that the method cannot have.
    """
    forms: dict[str, Form | None] = {COEFFICIENTS: None}
    forms |= {method.form.name: method.form for method in METHODS.values() if method.form}
    if recipe.method not in list(forms):  # a damaged recipe may name anything, also what cannot be a key
        raise ArtefactError(f"{where}: unknown method {recipe.method!r}; expected one of {', '.join(forms)}")
    form = forms[recipe.method]
    wrong = parameters_misfit(form.parameters if form else (), recipe.parameters)
    if wrong := wrong or (form.misfit(recipe) if form else ""):
        raise ArtefactError(f"{where}: {recipe.method}: {wrong}")
    return form
