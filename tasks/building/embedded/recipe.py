"""The recipe of the embedded models as numbers, and the name of the folder that holds what it makes.

Small learning rates on purpose: experts that move less from the base merge better at the same scores of their own.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from psomerge.evals.benchmarks.cldr.names import LANGUAGES, SALT, SHARES, concepts
from psomerge.files.digest import digest_of

FORMAT = 1
"""To be raised when text or training change in a way that the numbers below do not show: trained models are then
trained anew."""

EXPERTS = (*LANGUAGES, "skill")
MODELS = ("base", *EXPERTS)


@dataclass(frozen=True)
class Stage:
    """One training: `tokens` in all, of which the share `replay` is fresh text of the base's kind, at the peak learning
    rate `rate`."""

    tokens: int
    rate: float
    replay: float = 0.0


STAGES: Mapping[str, Stage] = {
    "base": Stage(1_000_000, 4e-3),
    **{language: Stage(300_000, 1.2e-3, 0.25) for language in LANGUAGES},
    "skill": Stage(330_000, 1.5e-3, 0.25),
}


@dataclass(frozen=True)
class Shape:
    """Sizes of the model and of its batches. Heads of 32: vLLM's CPU attention has no smaller ones."""

    vocabulary: int = 640
    hidden: int = 160
    layers: int = 2
    heads: int = 5
    feed_forward: int = 448
    positions: int = 256
    initial_deviation: float = 0.04
    block: int = 128
    """Tokens a sequence."""
    batch: int = 8
    """Sequences a step: twice as many make half the steps, and experts that learn nothing."""
    warm_up: float = 0.05
    """Share of the steps in which the learning rate rises; from its peak it falls along a cosine to `last_rate` of
    it."""
    last_rate: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    largest_gradient: float = 1.0
    question_weight: float = 0.1
    """Of a question's tokens in the skill expert's loss; those of the answer weigh 1."""


SHAPE = Shape()


def digest() -> str:
    """Returns 64 hex digits that change with the recipe, the data and the libraries that make the models out of
    them."""
    libraries = {name: version(name) for name in ("babel", "tokenizers", "torch", "transformers")}
    data = [SALT, dict(SHARES), [concept.group for concept in concepts()]]
    return digest_of([FORMAT, {name: asdict(stage) for name, stage in STAGES.items()}, asdict(SHAPE), data, libraries])


def embedded_folder(home: Path, seed: int) -> Path:
    """The folder under `home` (PSOMERGE_HOME) of the models that this recipe makes from `seed`; a changed recipe has
    another one."""
    return home / "experts" / f"embedded-{seed}-{digest()[:12]}"
