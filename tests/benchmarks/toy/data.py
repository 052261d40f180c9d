"""Twelve countries as documents of lm-eval tasks."""

from datasets import Dataset

CAPITALS = {
    "Austria": "Vienna",
    "Chad": "N'Djamena",
    "Chile": "Santiago",
    "Cuba": "Havana",
    "Egypt": "Cairo",
    "Ghana": "Accra",
    "Iran": "Tehran",
    "Kenya": "Nairobi",
    "Nepal": "Kathmandu",
    "Norway": "Oslo",
    "Peru": "Lima",
    "Togo": "Lomé",
}
QUESTIONS = {"en": "The capital of {} is", "de": "Die Hauptstadt von {} ist", "NO": "Hovedstaden i {} er "}


def capitals(language: str = "en", **_: object) -> dict[str, Dataset]:
    """Choices: the capital and the next three in the list, turned by the country's place."""
    names = list(CAPITALS.values())
    docs = []
    for place, country in enumerate(CAPITALS):
        choices = [names[(place + step) % len(names)] for step in range(4)]
        turned = choices[place % 4 :] + choices[: place % 4]
        docs.append(
            {
                "country": country,
                "question": QUESTIONS[language].format(country),
                "choices": turned,
                "answer": turned.index(CAPITALS[country]),
                "capital": CAPITALS[country],
            }
        )
    return {"test": Dataset.from_list(docs)}
