"""Metrics of a whole corpus: chrF, chrF++, BLEU and spBLEU by sacrebleu, and Spearman's correlation, from statistics
per item that are summed before.

A corpus metric is no mean over items. What an item contributes is a row of sufficient statistics (n-grams asked for,
given and matched; lengths); the score of any set of items, a split or a bootstrap resample, follows from the sum of
their rows. Settings are those of lm-evaluation-harness.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psomerge.evals.metrics import correlation
from psomerge.evals.metrics.spm import model_file
from psomerge.evals.writing.forms import alike
from psomerge.evals.writing.forms import signature as form

Floats = NDArray[np.float64]

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bleu": ("BLEU", {}),
    "chrf": ("CHRF", {}),
    "chrf++": ("CHRF", {"word_order": 2}),
    "spbleu_flores101": ("BLEU", {"tokenize": "flores101"}),
    "spbleu_flores200": ("BLEU", {"tokenize": "flores200"}),
}
"""Of sacrebleu's, by the metric's name: its class and what differs from its defaults."""
SPEARMAN = "spearman_fifths"
NAMES = (*SETTINGS, SPEARMAN)


def statistics(name: str, prediction: str, references: Sequence[str]) -> tuple[float, ...]:
    """Returns an item's row of sufficient statistics, whole numbers: (3 * orders,) for chrF, (2 + 2 * 4,) for BLEU, (26
    * 26,) for Spearman.

    Args:
        name: of the metric, in `NAMES`.
        prediction: the model's answer.
        references: at least one; the best match counts for chrF, clipped counts over all for BLEU, the first alone for
            Spearman. The prediction is taken in their canonical Unicode form.
    """
    if name == SPEARMAN:
        return correlation.statistics(prediction, references[0])
    prediction, references = alike(prediction, references)
    # What sacrebleu's own significance tests are built on; the version is pinned, and a test holds the sum's score
    # equal to `corpus_score`.
    return tuple(_metric(name)._extract_corpus_statistics([prediction], [[reference] for reference in references])[0])


def score(name: str, rows: Sequence[Sequence[float]] | Floats) -> float:
    """Returns the metric of the items together, in [0, 1]: sacrebleu's number / 100, where it gives 100.00000000000004
    for a perfect BLEU exactly 1.

    Args:
        name: of the metric.
        rows: (items, statistics), at least one.

    Raises:
        ValueError: no row: a metric of nothing would be 0.
    """
    if not len(rows):
        raise ValueError(f"{name} of no items; expected a row of statistics for each item of the benchmark")
    if name == SPEARMAN:
        return float(correlation.scores(np.array(rows, dtype=np.float64).sum(axis=0, keepdims=True))[0])
    return _share(_metric(name)._compute_score_from_stats(np.sum(rows, axis=0).tolist()).score)


def sentence_score(name: str, row: Sequence[float]) -> float:
    """Returns the metric of one item alone, in [0, 1]; BLEU with sacrebleu's effective order, as its `sentence_bleu`
    has it, or short texts would get 0.

    One item has no correlation: for Spearman it is 1 less the distance, of the whole scale, between prediction and
    reference.
    """
    if name == SPEARMAN:
        return correlation.closeness(tuple(row))
    metric, numbers = _metric(name), list(row)
    if SETTINGS[name][0] == "BLEU":
        order = metric.max_ngram_order
        correct, total = numbers[2 : 2 + order], numbers[2 + order :]
        return _share(
            metric.compute_bleu(
                correct, total, int(numbers[0]), int(numbers[1]), metric.smooth_method, effective_order=True
            ).score
        )
    return _share(metric._compute_score_from_stats(numbers).score)


def scores(name: str, sums: Floats) -> Floats:
    """Returns the metric for many sums of rows at once, in [0, 1]: `score`'s formula on arrays, to about 1e-15.

    Args:
        name: of the metric.
        sums: (resamples, statistics).

    Returns:
        (resamples,); 0 where nothing matches.

    Source: chrF: Popović 2015, with sacrebleu's effective order. BLEU: Papineni et al. 2002, with the exponential
    smoothing of NIST's mteval.
    """
    if name == SPEARMAN:
        return correlation.scores(sums)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        match SETTINGS[name][0]:
            case "BLEU":
                found = _bleu(sums)
            case "CHRF":
                found = _chrf(sums, _metric(name).beta)
            case other:
                raise NotImplementedError(f"sums of sacrebleu's {other}")
    return np.minimum(np.nan_to_num(found, nan=0.0), 1.0)


def signature(name: str) -> list[Any]:
    """Returns what the metric's numbers depend on, as JSON data: settings, sacrebleu's version, the SHA-256 of the
    tokeniser's file or None."""
    if name == SPEARMAN:
        return [name, correlation.LEVELS, *form()]
    kind, settings = SETTINGS[name]
    file = model_file(settings["tokenize"]) if "tokenize" in settings else None
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file else None
    return [name, kind, settings, version("sacrebleu"), digest, *form()]


@lru_cache
def _metric(name: str) -> Any:
    import sacrebleu

    kind, settings = SETTINGS[name]
    if "tokenize" in settings:
        model_file(settings["tokenize"])  # sacrebleu's own download has no deadline and checks nothing
    return getattr(sacrebleu.metrics, kind)(**settings)


def _share(number: float) -> float:
    return min(number / 100, 1.0)


def _chrf(sums: Floats, beta: float) -> Floats:
    given, asked, matched = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    counted = (given > 0) & (asked > 0)
    orders = counted.sum(axis=1)
    precision = np.where(counted, matched / given, 0.0).sum(axis=1) / orders
    recall = np.where(counted, matched / asked, 0.0).sum(axis=1) / orders
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _bleu(sums: Floats) -> Floats:
    given, asked, (correct, total) = sums[:, 0], sums[:, 1], np.split(sums[:, 2:], 2, axis=1)
    halvings = np.cumsum(correct == 0, axis=1)  # each order without a match counts half as much as the one before
    precision = np.where(correct == 0, 0.5**halvings, correct) / total
    brevity = np.exp(np.minimum(0.0, 1 - asked / given))
    scored = (correct > 0).any(axis=1) & (total > 0).all(axis=1)
    return np.where(scored, brevity * np.exp(np.log(precision).mean(axis=1)), 0.0)
