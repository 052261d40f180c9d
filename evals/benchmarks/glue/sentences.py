"""GLUE with the split that each item belongs to: its training items are searched on, its validation items reported on;
its test items have no labels."""

from typing import TYPE_CHECKING, Any

from psomerge.evals.suites.splits import subsample

if TYPE_CHECKING:
    from datasets import DatasetDict

NAME = "nyu-mll/glue"
DRAWN = 1000
"""Training items that are drawn of each task, half of them for optimisation, half for validation; a suite's limits take
from these."""
SALT = "glue"


def dataset(*, part: str, revision: str | None = None, **_: object) -> "DatasetDict":
    """Returns `items` with GLUE's own fields and `split`: optimisation, validation or test.

    Args:
        part: configuration of GLUE, such as `cola`.
        revision: of the data set on the hub.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    parts: Any = load_dataset(NAME, part, revision=revision)
    train = parts["train"]
    drawn = subsample(SALT, [str(number) for number in range(len(train))], DRAWN)
    rows = [
        dict(train[number]) | {"split": ("optimisation", "validation")[place % 2]} for place, number in enumerate(drawn)
    ]
    rows += [dict(row) | {"split": "test"} for row in parts["validation_matched" if part == "mnli" else "validation"]]
    return DatasetDict({"items": Dataset.from_list(rows)})
