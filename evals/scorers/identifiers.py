"""Language identifiers: a text in, the label of its language out. The one that comes along, and any fastText model from
a file.

Neither asks the network for anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from psomerge.errors import ConfigError


@dataclass(frozen=True)
class Identifier:
    """A model that names the language of a text."""

    name: str
    labels: tuple[str, ...]
    """All that it can answer, in its own codes: `so`, or `som_Latn`."""
    identify: Callable[[str], str]
    """Of one line of text: the label of the likeliest language."""


@cache
def shipped() -> Identifier:
    """Returns py3langid's naive Bayes model over byte n-grams: 139 languages and `zxx` (no language), 5 MB, 0.1 ms a
    sentence.

    Source: Lui & Baldwin, langid.py, ACL 2012; model of py3langid 0.4.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    # An object of our own: the module's global one changes its languages when anybody says so.
    model = LanguageIdentifier.from_model_file(MODEL_FILE)
    return Identifier(
        "py3langid", tuple(str(label) for label in model.labels), lambda text: str(model.classify(text)[0])
    )


@cache
def fasttext(path: Path) -> Identifier:
    """Returns a fastText language identifier from a .bin or .ftz file, such as GlotLID, OpenLID or lid.176.

    Args:
        path: of a supervised fastText model; its labels are `__label__` and a language code, `som_Latn` or `so`.

    Raises:
        ConfigError: no such file, or not such a model.
    """
    from fasttext import load_model  # pyright: ignore[reportAttributeAccessIssue] (the package has no types)

    if not path.is_file():
        raise ConfigError(
            f"language identifier: no file {path}; give the path of a fastText model such as GlotLID's model.bin"
        )
    try:
        model = load_model(str(path))
        every: Sequence[str] = model.predict("a", k=-1, threshold=-1.0)[0]
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ConfigError(
            f"language identifier: {path} is no supervised fastText model: {' '.join(str(error).split())[:200]}"
        ) from error
    labels = tuple(_code(label) for label in every)

    def identify(text: str) -> str:
        predicted = model.predict(text)[0]
        return _code(predicted[0]) if predicted else "zxx"

    return Identifier(path.name, labels, identify)


def _code(label: str) -> str:
    return label.removeprefix("__label__")
