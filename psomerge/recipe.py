"""`recipe.json`: what a merged model is made of, small enough to send to an engine for every particle.

It names sources and numbers; it holds no tensor, opens no checkpoint and resolves no address.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ArtefactError
from psomerge.files.digest import digest_of
from psomerge.files.durable import write_atomic
from psomerge.files.names import ADAPTER

FORMAT = 1
COEFFICIENTS = "coefficients"
"""The method whose model is linear in the coefficients."""
DTYPES = ("base", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Source:
    """One checkpoint as it was used: `name` inside the recipe, its `source`, pinned by `revision` and file digests."""

    name: str
    source: str
    """Folder, `hf://ORG/NAME@COMMIT`, `s3://BUCKET/PREFIX@REVISION`, `models:/NAME/VERSION` or `embedded://NAME@SEED`;
    never a branch, tag or alias."""
    revision: str
    """The commit, 40 hex digits; of S3 the REVISION; of the registry NAME/VERSION; of a folder the first 40 digits of
    the digest over `files`."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """SHA-256 in hex by path relative to the checkpoint's folder."""


@dataclass(frozen=True)
class Recipe:
    """A merged model: theta_0 + sum_i (a_i + b_i m_i / (1 - p)) tau_i for `coefficients`; `psomerge.merge.methods` has
    the others, and knows which there are."""

    base: Source
    experts: tuple[Source, ...]
    method: str = COEFFICIENTS
    coefficients: tuple[tuple[float, ...], ...] = ((),)
    """(groups, directions) float64. Directions: the n experts' task vectors, then, if there are 2n, their DARE
    copies."""
    grouping: str = "model"
    """How tensors fall into groups (rows of `coefficients`): `psomerge.merge.grouping.GROUPINGS`."""
    drop_rate: float = 0.8
    """p of DARE in [0, 1): the share of entries that its mask removes."""
    mask_seed: int = 0
    parameters: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the method needs beyond coefficients, e.g. `density` of TIES."""
    dtype: str = "base"
    """Of the tensors written: `base` keeps each tensor's dtype in the base."""
    tokenizer_from: str = "base"
    vocabulary: str = ""
    """Digest of the merged vocabulary (`psomerge.vocabulary.merged_vocabulary`); empty where row i means one token in
    all checkpoints."""
    psomerge: str = ""
    """Version that wrote the recipe."""

    @property
    def sources(self) -> dict[str, Source]:
        """Of `base`, then of the experts, by name."""
        return {"base": self.base} | {expert.name: expert for expert in self.experts}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON data; `from_dict` of it equals this recipe, floats to the last bit."""
        return {"format": FORMAT} | json.loads(
            json.dumps(asdict(replace(self, psomerge=self.psomerge or version("psomerge"))))
        )

    def digest(self) -> str:
        """Returns 64 hex digits that change with everything that changes a tensor, and with nothing else."""
        content = self.to_dict()
        for key in ("psomerge", "tokenizer_from", "format"):
            del content[key]
        for source in (content["base"], *content["experts"]):
            del source["source"], source["revision"]
            source["files"] = {
                name: digest
                for name, digest in source["files"].items()
                if name.endswith(".safetensors") or name == ADAPTER
            }
        if not self.vocabulary:
            del content["vocabulary"]
        n = len(self.experts)
        if self.method == COEFFICIENTS and not any(b for row in self.coefficients for b in row[n:]):
            # No DARE copy weighs anything: the same model as without them, whatever the masks.
            content |= {
                "coefficients": [row[:n] for row in content["coefficients"]],
                "drop_rate": None,
                "mask_seed": None,
            }
        return digest_of(content)

    def with_coefficients(self, coefficients: Sequence[Sequence[float]]) -> "Recipe":
        """Returns this recipe with method `coefficients` and the given (groups, directions) numbers."""
        return replace(
            self, method=COEFFICIENTS, coefficients=tuple(tuple(float(c) for c in row) for row in coefficients)
        )

    def unmerged(self) -> dict[str, "Recipe"]:
        """Returns the recipes of the base (as `base`) and of every expert by its name, as points among the merges."""
        rows = len(self.coefficients)
        units = [[float(one == place) for one in range(len(self.experts))] for place in range(-1, len(self.experts))]
        return {name: self.with_coefficients([unit] * rows) for name, unit in zip(self.sources, units, strict=True)}


def from_dict(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Returns the recipe in plain JSON data.

    Raises:
        ArtefactError: an unknown or missing key, an unknown dtype, or numbers that are not finite. The method and its
            parameters are checked by `psomerge.merge.methods.table.form_of`.
    """
    data = dict(content)
    if data.pop("format", None) != FORMAT:
        raise ArtefactError(
            f"{where}: expected recipe format {FORMAT}, found {content.get('format')!r}; update psomerge or rebuild "
            "the recipe"
        )
    try:
        base = Source(**data.pop("base"))
        experts = tuple(Source(**expert) for expert in data.pop("experts"))
        coefficients = tuple(tuple(float(c) for c in row) for row in data.pop("coefficients"))
        parameters = dict(data.pop("parameters", {}))
        recipe = Recipe(base=base, experts=experts, coefficients=coefficients, parameters=parameters, **data)
        digest_of(recipe.to_dict())
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ArtefactError(
            f"{where}: not a recipe: {error}; expected what `psomerge` writes as recipe.json"
        ) from error
    _check(recipe, where)
    return recipe


def _check(recipe: Recipe, where: str) -> None:
    if recipe.dtype not in DTYPES:
        raise ArtefactError(f"{where}: unknown dtype {recipe.dtype!r}; expected one of {', '.join(DTYPES)}")
    if not 0 <= recipe.drop_rate < 1:
        raise ArtefactError(f"{where}: drop_rate must lie in [0, 1), found {recipe.drop_rate}")
    names: list[object] = [expert.name for expert in recipe.experts]  # of a file, where they may be anything
    if "base" in names or len({name for name in names if isinstance(name, str)}) < len(names):
        raise ArtefactError(f"{where}: experts need names of their own other than `base`, found {names}")
    if recipe.tokenizer_from not in recipe.sources:
        raise ArtefactError(
            f"{where}: unknown tokenizer_from {recipe.tokenizer_from!r}; expected one of {', '.join(recipe.sources)}"
        )
    n = len(recipe.experts)
    for row in recipe.coefficients:
        if len(row) not in (n, 2 * n):
            raise ArtefactError(f"{where}: {n} experts need {n} or {2 * n} coefficients a group, found {len(row)}")


def read(path: Path) -> Recipe:
    """Returns the recipe in a `recipe.json`. Raises ArtefactError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: cannot read a recipe: {error}") from error
    if not isinstance(content, dict):
        raise ArtefactError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return from_dict(cast("dict[str, Any]", content), str(path))


def to_bytes(recipe: Recipe) -> bytes:
    """Returns the content of `recipe.json`: indented, floats exactly."""
    return (json.dumps(recipe.to_dict(), indent=2) + "\n").encode()


def write(recipe: Recipe, path: Path) -> None:
    """Writes `recipe.json`, whole or not at all. Raises SpaceError where it cannot be written."""
    write_atomic(path, to_bytes(recipe))
