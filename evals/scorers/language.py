"""Whether an answer is in the asked language at all: the failure that a merged model shows first.

1 or 0 for each answer: it is written in the language's script, and a language identifier takes it for that language.
How good it is, is not looked at.

Languages that no identifier tells apart reliably count as one (`ALIKE`), and so do the Arabic dialects. Of right texts
a few per cent are taken for a neighbour of their language, of short ones more, so compare models with each other on the
same items rather than the number with 1.
"""

from collections import Counter
from collections.abc import MutableMapping, Sequence
from functools import lru_cache
from pathlib import Path

from psomerge.errors import ConfigError
from psomerge.evals.scorers.identifiers import Identifier, fasttext, shipped
from psomerge.evals.scorers.scorer import Item
from psomerge.evals.writing.forms import composed
from psomerge.evals.writing.language_tags import Language, language

ALIKE = (frozenset({"bs", "hr", "sr"}), frozenset({"id", "ms"}), frozenset({"zh", "yue", "wuu"}))
"""Taken for one another by every identifier on sentences, in one script."""

SCRIPT_DECIDES = frozenset({"Cher", "Mong", "Nkoo", "Olck", "Tfng", "Thaa", "Tibt"})
"""Scripts that one language or its close kin uses: enough where the identifier does not know the language."""


class InLanguage:
    """The scorer `psomerge.evals.scorers.language:InLanguage`."""

    def __init__(self, language: str, model: str | None = None) -> None:
        """Looks whether the language can be told.

        Args:
            language: BCP 47, Flores or ISO 639 tag of the language that answers must be in; in a suite usually
                "{language}". A script in it (zho_Hans, srp_Latn) is asked for too.
            model: path of a fastText language identifier with more languages than the one that comes along, such as
                GlotLID's `model.bin`.

        Raises:
            ConfigError: no language tag, a language that the identifier does not know in that script, or a file that is
                no identifier.
        """
        if not isinstance(language, str) or not isinstance(model, str | None):
            raise ConfigError(
                f"InLanguage: expected texts for `language` and `model`, found {language!r} and {model!r}"
            )
        self._identifier = fasttext(Path(model).expanduser()) if model else shipped()
        self._language = _asked(language)
        self._by_script_alone = not _knows(self._identifier, self._language)
        if self._by_script_alone and not set(self._language.scripts) & SCRIPT_DECIDES:
            script = f" in the script {', '.join(self._language.scripts)}" if self._language.scripts else ""
            raise ConfigError(
                f"InLanguage: the language identifier {self._identifier.name} does not know {language!r} (as "
                f"{self._language.code}{script}); "
                "give `model`, the path of a fastText identifier that does, such as GlotLID's model.bin, or leave "
                "the language out"
            )
        self._accepted = next(
            (group for group in ALIKE if self._language.code in group), frozenset({self._language.code})
        )

    def score(self, items: Sequence[Item], outputs: Sequence[str], memory: MutableMapping[str, str]) -> list[float]:
        """Returns 1.0 for each output in the language, else 0.0, also for one without any letter.

        Args:
            items: not looked at.
            outputs: (N,) answers, in any Unicode form.
            memory: not used: the same text gets the same answer.
        """
        return [float(self._holds(" ".join(composed(output).split()))) for output in outputs]

    def _holds(self, text: str) -> bool:
        scripts = Counter(_script(character) for character in text if character.isalpha())
        fitting = sum(count for script, count in scripts.items() if script in self._language.characters)
        # A third is enough: names and terms stay in Latin letters, and a Chinese character says as much as several of
        # them.
        if 3 * fitting <= scripts.total() or not _right_characters(text, self._language):
            return False
        return self._by_script_alone or _language(self._identifier.identify(text)).code in self._accepted


def _asked(tag: str) -> Language:
    try:
        return language(tag)
    except ValueError as error:
        raise ConfigError(f"InLanguage: {error}") from error


def _knows(identifier: Identifier, asked: Language) -> bool:
    """Whether some label is the language in one of the scripts asked for; a label without script stands for those that
    the language is usually written in."""
    return any(
        known.code == asked.code and known.characters & asked.characters for known in map(_language, identifier.labels)
    )


@lru_cache(maxsize=10_000)
def _language(label: str) -> Language:
    try:
        return language(label)
    except ValueError:  # fastText models may have labels that are no languages
        return Language(label, ())


@lru_cache(maxsize=100_000)
def _script(character: str) -> str:
    from fontTools.unicodedata import script

    return script(character)


def _right_characters(text: str, asked: Language) -> bool:
    """Whether Chinese is in simplified or traditional characters as asked; a text that is both at once, by characters
    that only one of them has, is neither."""
    if asked.scripts not in (("Hans",), ("Hant",)):
        return True
    simplified = sum(_encodes(character, "gb2312") and not _encodes(character, "big5") for character in text)
    traditional = sum(_encodes(character, "big5") and not _encodes(character, "gb2312") for character in text)
    return simplified >= traditional if asked.scripts == ("Hans",) else traditional >= simplified


def _encodes(character: str, encoding: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False
