"""MiLiC-Eval (Zhang et al. 2025): the data sets and the scoring that `evals/benchmarks/milic/*.yaml` give to
lm-evaluation-harness.

Nine tasks in Tibetan, Uyghur, Kazakh (in Arabic letters) and Mongolian (in the traditional script). Its titles are left
out: they are scored by a ROUGE of their own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from psomerge.evals.benchmarks.flores.languages import english_name
from psomerge.evals.benchmarks.flores.passages import groups_of
from psomerge.evals.writing import numbers

if TYPE_CHECKING:
    from datasets import DatasetDict

NAME = "pkupie/milic-eval"
CODES = {"bod_Tibt": "bo", "uig_Arab": "ug", "kaz_Arab": "kk", "mvf_Mong": "mn"}
"""Its languages, by the codes that the other suites' data would give them."""
LONGEST = 512
"""Characters of a text to be classified, as in its own scripts."""


def dataset(*, task: str, language: str, revision: str | None = None, **more: Any) -> "DatasetDict":
    """Returns `train` (the first of its three sets of examples) and `test` of one task in one language.

    Args:
        task: folder of the data set, e.g. `vocabulary`.
        language: one of CODES.
        revision: of the data set on the hub.
        more: of the task's metadata: `into_english` for translation.

    Raises:
        ValueError: another language.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    if language not in CODES:
        raise ValueError(f"MiLiC-Eval: expected one of {', '.join(CODES)}, found {language!r}")
    code = CODES[language]
    files = {"train": f"{task}/{code}/train_1.json", "test": f"{task}/{code}/test.json"}
    loaded: Any = load_dataset(NAME, data_files=files, revision=revision)
    # The names say task and part: numbers alone would be those of other files' items too.
    made = {part: [dict(row) | {"id": f"{task}/{part}/{row['id']}"} for row in loaded[part]] for part in files}
    rows = {
        part: [{"id": row["id"]} | fields for row, fields in zip(found, _fields(task, code, found, more), strict=True)]
        for part, found in made.items()
    }
    shared: dict[str, Any] = {"language_name": english_name(language)}
    if labels := sorted({row["label"] for found in rows.values() for row in found if "label" in row}):
        shared["labels"] = labels
    return DatasetDict({part: Dataset.from_list([row | shared for row in found]) for part, found in rows.items()})


def _fields(task: str, code: str, rows: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a task's prompt and answer are made of, for each row."""
    if task.startswith("translation"):
        article = groups_of([(row["id"], row["en"]) for row in rows], "flores") if task == "translation_article" else {}
        source, target = (code, "en") if more["into_english"] else ("en", code)
        return [
            {"source": row[source], "target": row[target], "article": article.get(row["id"], row["id"])} for row in rows
        ]
    if task.startswith("text_classification"):
        return [{"text": row["text"][:LONGEST], "label": row["label"]["en"]} for row in rows]
    if task == "math":
        # Test problems have no solution written out.
        return [
            {
                "question": row["question"],
                "answer": str(row["answer"]),
                "solution": (row.get("cot") or {}).get("en") or str(row["answer"]),
            }
            for row in rows
        ]
    asked = [{key: row[key] for key in ("word", "question", "context") if row.get(key)} for row in rows]
    return [
        fields | {"options": row["options"], "letters": list("ABCDE"[: len(row["options"])]), "answer": row["answer"]}
        for fields, row in zip(asked, rows, strict=True)
    ]


def same_number(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Returns `acc`: whether the last number of an answer is the right one, in any digits; and `acc_published`, the
    same as MiLiC-Eval's own script compares them."""
    found = re.findall(r"\d+\.\d+|\d+", results[0].replace(",", ""))
    theirs = float(bool(found) and float(found[-1]) == float(doc["answer"]))
    return {"acc": float(numbers.same(results[0], doc["answer"])), "acc_published": theirs}
