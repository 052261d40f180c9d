"""What every score comes from: one Parquet file a judgement, one row an item."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psomerge.errors import StateError
from psomerge.evals.suites.scores import Example
from psomerge.files.durable import write_atomic

if TYPE_CHECKING:
    import pyarrow

SHOWN = 1000
"""Rows of the table on MLflow's page: more makes it slow, and the Parquet file has them all."""
COLUMNS = (
    "model",
    "benchmark",
    "value",
    "prompt",
    "extracted",
    "reference",
    "output",
    "choices",
    "logprobs",
    "language",
    "item",
    "group",
    "metric",
    "beside",
)
"""Of that table: what is looked for first stands first."""


def path_of(folder: Path, key: str) -> Path:
    """Returns where the items of a judgement lie in a run's folder."""
    return folder / "items" / f"{key}.parquet"


def write(examples: Iterable[Example], path: Path) -> None:
    """Writes the items of one model on one evaluation set; the file appears whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_pylist([asdict(one) for one in examples], schema=_schema()), buffer, compression="zstd"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue().to_pybytes())


def read(path: Path) -> list[Example]:
    """Returns the items of a file. Raises StateError if there is none, or it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path, schema=_schema()).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise StateError(
            f"{path}: the items of a judgement cannot be read: {' '.join(str(error).split())[:200]}; delete its run "
            "and judge again"
        ) from error
    return [Example(**row | {"choices": tuple(row["choices"]), "logprobs": tuple(row["logprobs"])}) for row in rows]


def beside(files: Iterable[Path]) -> dict[str, float]:
    """Returns by benchmark the mean of the suite's other figure over the items of one model, in [0, 1], where it asks
    for one. Raises StateError as `read`."""
    found: dict[str, list[float]] = {}
    for one in (item for file in files for item in read(file)):
        if one.beside is not None:
            found.setdefault(one.benchmark, []).append(one.beside)
    return {name: sum(values) / len(values) for name, values in found.items()}


def together(parts: Sequence[tuple[str, Path]], target: Path) -> list[dict[str, Any]]:
    """Writes the items of several models into one file with a first column `model`, and returns the first SHOWN rows,
    the models taking turns.

    Args:
        parts: label of a model and its file, in the order to show.
        target: of the joint file.

    Raises:
        StateError: as `read`.
    """
    items = [[{"model": label, **asdict(one)} for one in read(path)] for label, path in parts]
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema().insert(0, pa.field("model", pa.string()))
    pq.write_table(
        pa.Table.from_pylist([row for rows in items for row in rows], schema=schema), target, compression="zstd"
    )
    turns = (rows[place] for place in range(max(map(len, items), default=0)) for rows in items if place < len(rows))
    return [{name: row[name] for name in COLUMNS} for _, row in zip(range(SHOWN), turns, strict=False)]


def _schema() -> "pyarrow.Schema":
    import pyarrow as pa

    special = {"choices": pa.list_(pa.string()), "logprobs": pa.list_(pa.float64())}
    special |= dict.fromkeys(("value", "beside"), pa.float64())
    return pa.schema([pa.field(one.name, special.get(one.name, pa.string())) for one in fields(Example)])
