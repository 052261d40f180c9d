"""Sentence pairs of FLORES+ in one direction, joined by sentence: the data set that `evals/benchmarks/flores/*.yaml`
give to lm-evaluation-harness."""

from typing import TYPE_CHECKING, Any

from psomerge.evals.benchmarks.flores.languages import IN_FLORES_PLUS, check_code, english_name
from psomerge.evals.benchmarks.flores.passages import FLORES

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def dataset(*, language: str, hub: str, into_hub: bool, revision: str | None = None, **_: object) -> "DatasetDict":
    """Returns `dev` and `devtest` with the fields id, url (of the article), source, target, source_name, target_name.

    Args:
        language: code of FLORES-200, e.g. `swh_Latn`.
        hub: code of the other language.
        into_hub: whether `language` is translated from, else it is translated into.
        revision: of the data set on the hub.

    Raises:
        ValueError: no such code, or the two languages do not have the same sentences.
    """
    from datasets import Dataset, DatasetDict

    check_code(language)
    ours, theirs = (_sentences(code, revision) for code in (language, hub))
    names = {
        "source_name": english_name(language if into_hub else hub),
        "target_name": english_name(hub if into_hub else language),
    }
    return DatasetDict(
        {
            part: Dataset.from_list([pair | names for pair in _joined(ours[part], theirs[part], into_hub)])
            for part in ("dev", "devtest")
        }
    )


def _sentences(code: str, revision: str | None) -> Any:
    from datasets import load_dataset

    return load_dataset(FLORES[0], IN_FLORES_PLUS.get(code, code), revision=revision)


def _joined(ours: "Dataset", theirs: "Dataset", into_hub: bool) -> list[dict[str, Any]]:
    hub = {row["id"]: row["text"] for row in theirs}  # pyright: ignore[reportCallIssue, reportArgumentType]
    rows: list[Any] = list(ours)
    if set(hub) != {row["id"] for row in rows}:
        raise ValueError(f"expected the same sentences in two languages of FLORES, found {len(hub)} and {len(rows)}")
    pairs = [(row, row["text"], hub[row["id"]]) for row in rows]
    return [
        {"id": row["id"], "url": row["url"], "source": own if into_hub else other, "target": other if into_hub else own}
        for row, own, other in pairs
    ]
