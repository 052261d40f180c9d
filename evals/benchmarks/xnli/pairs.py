"""XNLI with the number of each pair: what lm-evaluation-harness's own tasks lack to keep the translations of one pair
together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import DatasetDict

NAME = "facebook/xnli"
WORDS = {
    "ar": ("صحيح", "نعم", "لذا", "رقم"),
    "bg": ("правилно", "да", "така", "не"),
    "de": ("richtig", "Ja", "Auch", "Nein"),
    "el": ("σωστός", "Ναί", "Έτσι", "όχι"),
    "en": ("right", "Yes", "Also", "No"),
    "es": ("correcto", "Sí", "Asi que", "No"),
    "fr": ("correct", "Oui", "Aussi", "Non"),
    "hi": ("सही", "हाँ", "इसलिए", "नहीं"),
    "ru": ("правильно", "Да", "Так", "Нет"),
    "sw": ("sahihi", "Ndiyo", "Hivyo", "Hapana"),
    "th": ("ถูกต้อง", "ใช่", "ดังนั้น", "ไม่"),
    "tr": ("doğru", "Evet", "Böylece", "Hayır"),
    "ur": ("صحیح", "جی ہاں", "اس لئے", "نہیں"),
    "vi": ("đúng", "Vâng", "Vì vậy", "Không"),
    "zh": ("正确", "是的", "所以", "不是的"),
}
"""Of the harness's prompts: "right?", and what answers it where the second sentence follows, may follow, and
contradicts."""


def dataset(*, language: str, revision: str | None = None, **_: object) -> "DatasetDict":
    """Returns `validation` with the fields premise, hypothesis, label, number and choices.

    Args:
        language: of the fifteen.
        revision: of the data set on the hub.

    Raises:
        ValueError: another language.
    """
    from datasets import Dataset, DatasetDict, load_dataset

    if language not in WORDS:
        raise ValueError(f"XNLI: expected one of {', '.join(WORDS)}, found {language!r}")
    right, *answers = WORDS[language]
    rows: Any = load_dataset(NAME, language, revision=revision)["validation"]
    # The pairs lie in one order in all languages; nothing else says which belong together.
    numbered = [
        dict(row)
        | {
            "number": number,
            "choices": [f"{row['premise']}, {right}? {answer}, {row['hypothesis']}" for answer in answers],
        }
        for number, row in enumerate(rows)
    ]
    return DatasetDict({"validation": Dataset.from_list(numbered)})
