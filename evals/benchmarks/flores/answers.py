"""What is taken as the translation of what a model wrote."""

from collections.abc import Iterable, Sequence


def one_line(answers: Iterable[Sequence[str]], _documents: object) -> list[list[str]]:
    """Returns answers with line breaks and runs of blanks as one blank each, as BayLing's scripts write them.

    Args:
        answers: of each item, as lm-evaluation-harness hands them to a filter.
    """
    return [[" ".join(answer.split()) for answer in given] for given in answers]
