"""Everything that a run's report, terminal table and figures show, as one plain record.

It holds numbers that others measured; it measures nothing and opens no checkpoint. Scores and fitness lie in [0, 1].
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from psomerge.errors import StateError
from psomerge.evals.significance.intervals import Interval
from psomerge.files.durable import write_atomic
from psomerge.fit.warning import FitWarning
from psomerge.tasks.report.records import record
from psomerge.tasks.search.history import Candidate, SearchStep

FORMAT = 1
KINDS = ("base", "expert", "baseline", "search")


@dataclass(frozen=True)
class Row:
    """One model in the result table, scored on the test split."""

    label: str
    kind: str
    """One of KINDS; `search` is what a swarm found."""
    mean: Interval | None = None
    """Over benchmarks as the suite weighs them; None if the model could not be scored."""
    benchmarks: Mapping[str, Interval] = field(default_factory=dict)
    languages: Mapping[str, Interval] = field(default_factory=dict)
    judgements: int = 0
    """Spent on optimisation items to find or tune it."""
    coefficients: tuple[tuple[float, ...], ...] = ()
    """(groups, directions); empty where a method has none."""
    fitness: float | None = None
    """On the optimisation items: for the fitness curve, not to be set beside `mean`."""
    failure: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Paired difference `a` minus `b` (labels of rows) on the test items, with its 95 % interval and p value."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Split:
    """A part of the suite's items and what the run used it for."""

    name: str
    items: int
    used_for: str


@dataclass(frozen=True)
class Model:
    """A checkpoint that went in: its name, where it came from, its pinned revision and one digest over its files."""

    name: str
    source: str
    revision: str
    digest: str


@dataclass(frozen=True)
class Provenance:
    """What the result depends on beyond the config."""

    base: Model
    experts: tuple[Model, ...]
    versions: Mapping[str, str]
    """By package: psomerge, torch, vllm, transformers, lm-eval."""
    device: str
    threads: int
    engine: str = ""
    dtype: str = ""
    """That the engine computes in."""
    tokenizer: str = ""
    """Whose it is, and what was added to it."""


@dataclass(frozen=True)
class Registration:
    """The registered version, the alias it holds (None if it holds none) and why it was or was not promoted."""

    name: str
    version: str
    alias: str | None
    promoted: bool
    reason: str


@dataclass(frozen=True)
class Summary:
    """A finished run."""

    run: str
    """Run key."""
    config: str
    suite: str
    seed: int
    swarm: str
    """The initial swarm that ran: `star` or `paper`."""
    result: str
    """Label of the row that holds the model which was written."""
    history: tuple[SearchStep, ...]
    rows: tuple[Row, ...]
    provenance: Provenance
    recipe: Mapping[str, Any]
    comparisons: tuple[Comparison, ...] = ()
    splits: tuple[Split, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    groups: tuple[str, ...] = ()
    """Names of the rows of coefficients, in order, if there are several."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds by phase, in the order to show; phases do not overlap."""
    wall_seconds: float = 0.0
    judgements: int = 0
    """Of the search, failed ones included."""
    engine_bytes: int = 0
    """Peak resident memory of the engine's process; 0 if not measured. `main_bytes`: of the pipeline's own."""
    main_bytes: int = 0
    registration: Registration | None = None
    finished: str = ""
    """When, as ISO 8601 text; empty if not recorded."""
    equal: str = ""
    """What of the suite is asked under several names, and was kept together; empty where nothing is."""
    warnings: tuple[FitWarning, ...] = ()
    """What the check found about the experts; empty, too, in summaries from before it looked."""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON data; `from_dict` of it equals this summary, floats to the last bit."""
        return {"format": FORMAT} | json.loads(json.dumps(asdict(self), allow_nan=False))

    def row(self, label: str) -> Row | None:
        """Returns the row of that label, or None."""
        return next((row for row in self.rows if row.label == label), None)

    def best_expert(self) -> Row | None:
        """Returns the expert with the highest mean on the test split, or None if no expert was scored."""
        scored = [row for row in self.rows if row.kind == "expert" and row.mean is not None]
        return max(scored, key=lambda row: row.mean.mean if row.mean else 0.0, default=None)


def from_dict(content: Mapping[str, Any], where: str = "summary") -> Summary:
    """Returns the summary in plain JSON data.

    Raises:
        StateError: another format, or a key that is missing or of another type.
    """
    if content.get("format") != FORMAT:
        raise StateError(
            f"{where}: expected summary format {FORMAT}, found {content.get('format')!r}; run the same psomerge that "
            "wrote it, or the run again"
        )
    return record(Summary, content, where, remedy="run the same command again to write it anew")


def read(path: Path) -> Summary:
    """Returns the summary in a file that `write` made. Raises StateError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(f"{path}: cannot read a run's summary: {error}; finish the run first") from error
    if not isinstance(content, dict):
        raise StateError(
            f"{path}: expected a JSON object, found {type(content).__name__}; run the same command again to write it "
            "anew"
        )
    return from_dict(content, str(path))


def write(summary: Summary, path: Path) -> None:
    """Writes the summary as indented JSON, whole or not at all. Keys keep their order: phases and benchmarks are shown
    in it.

    Raises:
        SpaceError: the folder is full, missing or cannot be written.
    """
    write_atomic(path, (json.dumps(summary.to_dict(), indent=2) + "\n").encode())
