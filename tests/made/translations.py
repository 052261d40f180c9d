"""Translations of sentences that mean nothing, more or less well heard, and their scores: by our statistics per item,
and by sacrebleu from the texts."""

import random

import sacrebleu

from psomerge.evals.metrics import corpus
from psomerge.evals.suites.scores import BenchmarkScore

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "away,",
    "far",
    "from",
    "home.",
    "Again!",
    "(yes)",
    "Käse",
    "猫は",
    "家",
)


def sentence(generator: random.Random, longest: int = 20) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, longest)))


def heard(generator: random.Random, text: str, share: float) -> str:
    """A text of which so many words are kept, and any word stands for the others; now and then nothing at all."""
    return (
        ""
        if generator.random() < 0.05
        else " ".join(word if generator.random() < share else generator.choice(WORDS) for word in text.split())
    )


def pairs(count: int, seed: int = 0, references: int = 1, share: float = 0.7) -> tuple[list[str], list[list[str]]]:
    """Predictions, and for each its references."""
    generator = random.Random(seed)
    asked = [[sentence(generator) for _ in range(references)] for _ in range(count)]
    return [heard(generator, generator.choice(listed), share) for listed in asked], asked


def judged(metric: str, predictions, references, groups=None, weight=1.0, benchmark="b") -> BenchmarkScore:
    rows = tuple(
        corpus.statistics(metric, prediction, listed)
        for prediction, listed in zip(predictions, references, strict=True)
    )
    names = tuple(f"i{number}" for number in range(len(rows)))
    values = tuple(corpus.sentence_score(metric, row) for row in rows)
    return BenchmarkScore(benchmark, "en", metric, weight, names, tuple(groups or names), values, metric, rows)


def of_texts(metric: str, predictions, references) -> float:
    """The metric of some items by sacrebleu, from the texts, in [0, 1]."""
    streams = list(zip(*references, strict=True))
    if metric == "bleu":
        return sacrebleu.corpus_bleu(predictions, streams).score / 100
    return sacrebleu.corpus_chrf(predictions, streams, word_order=2 if metric == "chrf++" else 0).score / 100
