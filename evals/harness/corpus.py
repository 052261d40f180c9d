"""Corpus metrics in lm-evaluation-harness's own terms: which aggregations are known, spBLEU and Spearman's correlation
under names that a task's YAML can use.

The harness has BLEU, chrF and chrF++ (and TER, an error rate: lower is better, so it is no fitness); spBLEU is
registered here, passing items on as the harness's metrics do and aggregating them by sacrebleu in one call.
"""

from collections.abc import Callable, Sequence
from typing import Any

from psomerge.evals.metrics import corpus


def register() -> None:
    """Makes `spbleu_flores101`, `spbleu_flores200` and `spearman_fifths` metrics and aggregations of the harness; more
    than once does no more."""
    import lm_eval.api.metrics  # noqa: F401  (the harness imports its own only into an empty registry)
    from lm_eval.api import registry

    for aggregation in OWN:
        name = aggregation.__name__
        registry.register_aggregation(name)(aggregation)
        registry.register_metric(metric=name, higher_is_better=True, output_type="generate_until", aggregation=name)(
            pair
        )


def pair(items: Any) -> Any:
    """Returns the item, (reference or references, prediction), as it is: the metric is of all items together."""
    return items


def spbleu_flores101(items: Sequence[Any]) -> float:
    """Returns spBLEU in [0, 100] of all items, with the tokeniser of FLORES-101. Source: Goyal et al. 2022, section
    5.2."""
    return _spbleu("flores101", items)


def spbleu_flores200(items: Sequence[Any]) -> float:
    """Returns spBLEU in [0, 100] of all items, with the tokeniser of FLORES-200. Source: NLLB Team 2022, arXiv
    2207.04672."""
    return _spbleu("flores200", items)


def spearman_fifths(items: Sequence[Any]) -> float:
    """Returns Spearman's correlation in [0, 1] of numbers in fifths from 0 to 5; see `evals.metrics.correlation`."""
    return corpus.score(corpus.SPEARMAN, rows_of(corpus.SPEARMAN, items))


OWN = (spbleu_flores101, spbleu_flores200, spearman_fifths)


def corpus_metric(aggregation: Callable[..., Any] | None) -> str | None:
    """Returns the name in `evals.metrics.corpus` of what an aggregation of the harness computes, or None if it is none
    of those."""
    from lm_eval.api import metrics

    known: dict[Any, str] = {metrics.bleu: "bleu", metrics.chrf: "chrf", metrics.chrfpp: "chrf++"} | {
        one: one.__name__ for one in OWN
    }
    return known.get(aggregation)


def texts(item: Any) -> tuple[str, list[str]]:
    """Returns prediction and references of an item as the harness's aggregations read it: (reference or references,
    prediction or [prediction]).

    Raises:
        ValueError: it is nothing of the kind, or has no reference.
    """
    given, prediction = item if isinstance(item, list | tuple) and len(item) == 2 else (None, None)
    references = [given] if isinstance(given, str) else list(given or [])
    if isinstance(prediction, list | tuple) and len(prediction) == 1:
        prediction = prediction[0]
    if not isinstance(prediction, str) or not references or not all(isinstance(text, str) for text in references):
        raise ValueError(f"expected a reference (or several) and a prediction, found {item!r:.120}")
    return prediction, references


def rows_of(name: str, items: Sequence[Any]) -> list[tuple[float, ...]]:
    """Returns each item's row of statistics for a corpus metric.

    Raises:
        ValueError: an item is no pair, or has more references than another: the harness would leave out what not all
            have.
    """
    read = [texts(item) for item in items]
    if len(counts := {len(references) for _, references in read}) > 1:
        raise ValueError(f"expected as many references for each item, found {min(counts)} to {max(counts)}")
    return [corpus.statistics(name, prediction, references) for prediction, references in read]


def _spbleu(tokeniser: str, items: Sequence[Any]) -> float:
    import sacrebleu

    from psomerge.evals.metrics.spm import model_file

    model_file(tokeniser)
    read = [texts(item) for item in items]
    references = list(zip(*(listed for _, listed in read), strict=True))
    return sacrebleu.corpus_bleu([prediction for prediction, _ in read], references, tokenize=tokeniser).score
