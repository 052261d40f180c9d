"""SIB-200 with the article of each sentence: the data set that `sib200.yaml` gives to lm-evaluation-harness.

The sentences are FLORES's, so they share their group with the passages of Belebele and FLORES. They are joined in
English, by their text.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from psomerge.evals.benchmarks.flores.languages import check_code
from psomerge.evals.benchmarks.flores.passages import groups_of

if TYPE_CHECKING:
    from datasets import DatasetDict

NAME = "Davlan/sib200"
PARTS = {"train": ("train",), "test": ("validation", "test")}
"""The data set's own parts that make ours: 701 sentences for examples, 99 + 204 to be judged on."""


def dataset(*, language: str, passages: str, revision: str | None = None, **_: object) -> "DatasetDict":
    """Returns `train` and `test` with the fields index_id, category, text and article.

    Args:
        language: code of FLORES-200, or `nqo_Nkoo`.
        passages: where articles are looked up: `flores`, or `belebele` in a suite that has no FLORES and need not ask
            for it.
        revision: of the data set on the hub.

    Raises:
        ValueError: no such code.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    check_code(language)
    articles = _articles(passages, revision)
    loaded: Any = load_dataset(NAME, language, revision=revision)
    rows = {
        ours: [dict(row) | {"article": articles[str(row["index_id"])]} for part in parts for row in loaded[part]]
        for ours, parts in PARTS.items()
    }
    return DatasetDict({part: Dataset.from_list(found) for part, found in rows.items()})


@cache
def _articles(passages: str, revision: str | None) -> Mapping[str, str]:
    """Group by the number that a sentence has in every language."""
    from datasets import load_dataset

    english: Any = load_dataset(NAME, "eng_Latn", revision=revision)
    sentences = [
        (str(row["index_id"]), row["text"]) for parts in PARTS.values() for part in parts for row in english[part]
    ]
    return groups_of(
        sentences, passages, known=0.98 if passages == "flores" else 0.0
    )  # Belebele uses a part of FLORES only
