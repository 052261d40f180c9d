"""WMT22's general test set in one direction: the data set that `evals/benchmarks/wmt22/*.yaml` give to
lm-evaluation-harness."""

from typing import TYPE_CHECKING, Any

from psomerge.evals.benchmarks.flores.languages import english_name

if TYPE_CHECKING:
    from datasets import DatasetDict

NAME = "haoranxu/WMT22-Test"


def dataset(*, pair: str, revision: str | None = None, **_: object) -> "DatasetDict":
    """Returns `test` with the fields source, target and target_name.

    Args:
        pair: e.g. "zh-en", from and into; the data set's one column bears this name.
        revision: of the data set on the hub.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    source, target = pair.split("-")
    rows: Any = load_dataset(NAME, pair, revision=revision)["test"]
    found = [
        {"source": row[pair][source], "target": row[pair][target], "target_name": english_name(target)} for row in rows
    ]
    return DatasetDict({"test": Dataset.from_list(found)})
