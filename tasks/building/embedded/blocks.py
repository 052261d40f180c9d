"""The embedded models' tokenizer, and lines of text packed into blocks of token ids."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.evals.benchmarks.cldr.names import LANGUAGES
from psomerge.tasks.building.embedded.recipe import SHAPE, STAGES
from psomerge.tasks.building.embedded.text import TextLine, base_lines, language_lines, skill_lines

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

END = "<eos>"
"""Token 0: end of text and padding."""
LINES_AT_ONCE = 1000


def train_tokenizer(seed: int) -> "Tokenizer":
    """Returns a byte-level BPE of `SHAPE.vocabulary` tokens, trained on a sample of all the text that the models of
    `seed` will see."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    sample = list(islice(base_lines(f"{seed}|base"), 4000)) + list(islice(skill_lines(f"{seed}|skill"), 800))
    for language in LANGUAGES:
        sample += islice(language_lines(language, f"{seed}|{language}"), 2500)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE.vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line.question + line.text for line in sample), trainer)
    return tokenizer


def read_tokenizer(folder: Path) -> "Tokenizer":
    """Returns the tokenizer of a model that was saved."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def blocks_of(
    tokenizer: "Tokenizer", name: str, seed: int, *, effort: float = 1.0
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns one model's whole training data, its own text and the replay shuffled into each other.

    Args:
        tokenizer: of this seed.
        name: one of `recipe.MODELS`.
        seed: of the models.
        effort: share of the recipe's tokens, in (0, 1].

    Returns:
        Token ids (blocks, SHAPE.block) int64 and their weights in the loss, the same shape, float32.
    """
    import torch

    tokens, replay_share = effort * STAGES[name].tokens, STAGES[name].replay
    own = _packed(tokenizer, _lines(name, f"{seed}|{name}"), round(tokens * (1 - replay_share)))
    replay = _packed(tokenizer, base_lines(f"{seed}|{name}|replay"), round(tokens * replay_share))
    ids, weights = (torch.cat(pair) for pair in zip(own, replay, strict=True))
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    return ids[order], weights[order]


def _lines(name: str, address: str) -> Iterator[TextLine]:
    if name == "base":
        return base_lines(address)
    return skill_lines(address) if name == "skill" else language_lines(name, address)


def _packed(tokenizer: "Tokenizer", lines: Iterator[TextLine], tokens: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Returns ids and weights of as many full blocks as `tokens` hold, lines end to end."""
    import torch

    whole = tokens // SHAPE.block * SHAPE.block
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < whole:
        some = list(islice(lines, LINES_AT_ONCE))
        questions = tokenizer.encode_batch([line.question for line in some])
        for question, text in zip(questions, tokenizer.encode_batch([line.text for line in some]), strict=True):
            ids += question.ids + text.ids
            weights += [SHAPE.question_weight] * len(question.ids) + [1.0] * len(text.ids)
    shape = (-1, SHAPE.block)
    return torch.tensor(ids[:whole], dtype=torch.int64).reshape(shape), torch.tensor(
        weights[:whole], dtype=torch.float32
    ).reshape(shape)
