"""What a config may say. One YAML file is one run; the records here never pass below `flows`."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from psomerge.errors import ConfigError, nearest
from psomerge.evals.engines.engine import EngineSettings
from psomerge.merge.methods.table import baselines
from psomerge.recipe import Recipe
from psomerge.search.pso import Settings
from psomerge.search.searches import SEARCHES
from psomerge.tasks.tracking.store import check_model_name

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}$")]
Text = Annotated[str, Field(strict=True, min_length=1)]


def _known(what: str, table: Callable[[], Iterable[str]]) -> AfterValidator:
    """Refuses names that a table has not; it is asked anew each time."""

    def check(name: str) -> str:
        if name not in (names := list(table())):
            raise ValueError(f"unknown {what} {name!r}{nearest(name, names)}")
        return name

    return AfterValidator(check)


def _registered(name: str) -> str:
    try:
        return check_model_name(name)
    except ConfigError as error:  # which pydantic does not take for a value that cannot be
        raise ValueError(str(error)) from error


Baseline = Annotated[str, _known("baseline", baselines)]
Swarm = Annotated[str, _known("swarm", lambda: SEARCHES)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class SwarmConfig(_Strict):
    """The search. Defaults: PSO-Merging (arXiv 2508.19839), but for the initial swarm."""

    initial: Swarm = "star"
    """`paper`: base, experts, their DARE copies. `star`: base, experts, and sums of all task vectors that lean to one
    expert each."""
    steps: int = Field(default=Settings.steps, ge=1)
    """S: how often every particle is judged; the paper's number for language models."""
    inertia: float = Field(default=Settings.inertia, ge=0)
    cognitive: float = Field(default=Settings.cognitive, ge=0)
    social: float = Field(default=Settings.social, ge=0)
    factors: Literal["particle", "group"] = Settings.factors
    """Whether r1 and r2 are drawn once per particle and step, or also per group of tensors."""
    grouping: Literal["model", "layers", "kinds"] = "model"
    """Which tensors share a row of coefficients."""
    drop_rate: float = Field(default=Recipe.drop_rate, ge=0, lt=1)
    """p of DARE: the share of entries that its mask removes."""
    mask_seed: int = Field(default=Recipe.mask_seed, ge=0)
    """Of the DARE masks."""
    scale: float | None = Settings.scale
    """s of the star; default min(1, 2/n)."""
    pull: float = Settings.pull
    """u of the star."""


class CompareConfig(_Strict):
    """What stands beside the result in the table, each at its own expense in judgements."""

    baselines: tuple[Baseline, ...] = ("average", "task_arithmetic", "ties")
    """Tuned on the optimisation items, at most 9 judgements each."""
    swarms: tuple[Swarm, ...] = ()
    """Further searches with the same settings from another initial swarm."""


class EngineConfig(_Strict):
    """What judges a model; see `evals.engines.engine.EngineSettings`."""

    kind: Literal["auto", "vllm", "transformers"] = "auto"
    """`auto`: vLLM where it runs the base's architecture, else transformers, which is slower and knows
    sequence-to-sequence models too."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int = Field(default=EngineSettings.threads, ge=1)
    """OpenMP threads; a tiny model wants one, a larger one as many as there are idle cores."""
    max_num_seqs: int = Field(default=EngineSettings.max_num_seqs, ge=1)
    max_num_batched_tokens: int = Field(default=EngineSettings.max_num_batched_tokens, ge=1)
    kv_cache_gib: float = Field(default=EngineSettings.kv_cache_bytes / 2**30, gt=0)
    deadline_s: float = Field(default=EngineSettings.deadline_s, gt=0)
    """For one judgement, in seconds; an engine that needs longer is ended and the judgement repeated on a new one."""


class RegisterConfig(_Strict):
    """Where the result goes."""

    model: Annotated[str, Field(strict=True), AfterValidator(_registered)]
    """Name in the MLflow model registry: letters, digits, _ and, after the first, - . + = , and blanks between them;
    in a Unity Catalog CATALOG.SCHEMA.NAME."""
    experiment: Text = "psomerge"
    """MLflow experiment that the run appears in."""


class Config(_Strict):
    """A whole run."""

    name: Name
    base: Text
    """Folder, `hf://ORG/NAME@REVISION`, `s3://BUCKET/PREFIX`, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or
    `embedded://base@SEED`. A path leads from this file's folder, `~` is the user's home; what is there as a folder is
    that folder, whatever its name looks like."""
    experts: dict[Name, Text] = Field(min_length=1)
    """Source by name, as of `base`; the order is the order of the coefficients."""
    suite: Text
    """A shipped suite's name, or a path to a suite's YAML, from this file's folder. In a suite `include` and a task's
    `data_files` lead from the suite's."""
    seed: int = Field(default=Settings.seed, ge=0)
    """Of the search; it also draws the optimisation items where the suite limits them."""
    swarm: SwarmConfig = SwarmConfig()
    stopping: Literal["exact", "sequential", "off"] = "exact"
    """`exact`: a particle is judged no further once it cannot exceed its own personal best, whatever its other answers;
    the result is the same to the last bit. `sequential`: nor once a sequential test gives it up against its personal
    best on the items that both have answered; items are asked in random order, and where the fitness is no weighted
    mean it is `exact`. `off`: every particle is judged to the end."""
    stopping_error_rate: float = Field(default=0.05, gt=0, lt=1)
    """Of `sequential`: how often at most, over random orders of the items, a particle that would have exceeded its
    personal best is stopped."""
    rerank: int = Field(default=3, ge=1)
    """How many of the best models judged are ranked again on validation and optimisation items together."""
    compare: CompareConfig = CompareConfig()
    engine: EngineConfig = EngineConfig()
    register_as: RegisterConfig = Field(alias="register")
    dtype: Literal["base", "float32", "float16", "bfloat16"] = "base"
    """Of the tensors judged and written; `base` keeps each tensor's dtype in the base."""
    tokenizer_from: Name | None = None
    """`base` or an expert's name; must be given when several tokenizers or chat templates differ."""
    allow_task_code: bool = False
    """Whether a suite's own task folder may run its Python and templates."""

    @model_validator(mode="after")
    def _names_fit(self) -> "Config":
        if "base" in self.experts:
            raise ValueError("an expert cannot be called `base`; rename it")
        if self.tokenizer_from not in (None, "base", *self.experts):
            raise ValueError(
                f"tokenizer_from: {self.tokenizer_from!r} is neither `base` nor an "
                f"expert{nearest(str(self.tokenizer_from), [*self.experts])}"
            )
        return self

    @property
    def addresses(self) -> dict[str, str]:
        """Of `base`, then of the experts, by name."""
        return {"base": self.base, **self.experts}

    def canonical(self) -> dict[str, Any]:
        """Returns the config with all defaults as plain JSON data, equal for equal runs."""
        return self.model_dump(mode="json", by_alias=True)


class EvaluationConfig(_Strict):
    """One model on one suite."""

    suite: Text
    """A shipped suite's name, or a path to a suite's YAML."""
    split: Literal["optimisation", "validation", "test"] = "test"
    """Which items. A model that was searched for on a suite's optimisation items can be believed on its test items
    only."""
    seed: int = Field(default=0, ge=0)
    """Draws the items of the optimisation split where the suite limits them."""
    engine: EngineConfig = EngineConfig()
    experiment: Text = "psomerge evaluations"
    """MLflow experiment that the run appears in."""
    allow_task_code: bool = False
    """Whether a suite's own task folder, templates and scorers may run here."""
