"""Recipes, requests and checkpoints that the tests of the engines share."""

import random
from pathlib import Path

import torch
from safetensors.torch import save_file

from made.models import tiny_llama
from psomerge.evals.engines.engine import Answers, Batch, EngineSettings, Generation, Loglikelihood
from psomerge.merge.basis import open_basis
from psomerge.recipe import Recipe, Source

SETTINGS = EngineSettings(max_model_len=160, kv_cache_bytes=2**26)
BLOCK = 32


def family(root: Path, *, tied: bool, dtype: torch.dtype = torch.bfloat16) -> dict[str, Path]:
    """A base and two experts, random tiny Llamas, by name."""
    return {
        name: tiny_llama(root / name, seed, tied=tied, dtype=dtype)
        for seed, name in enumerate(("base", "first", "second"))
    }


def mixed(*coefficients: float, experts: tuple[str, ...] = ("first", "second")) -> Recipe:
    """base + sum_i coefficient_i (expert_i - base)."""
    return Recipe(Source("base", "", ""), tuple(Source(name, "", "") for name in experts), coefficients=(coefficients,))


def plain() -> Recipe:
    """The base itself."""
    return mixed(experts=())


def materialised(folder: Path, family: dict[str, Path], recipe: Recipe) -> Path:
    """The recipe's model as an ordinary checkpoint."""
    folder.mkdir()
    for file in family["base"].iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    save_file(
        dict(open_basis(family).merged_tensors(recipe)), str(folder / "model.safetensors"), metadata={"format": "pt"}
    )
    return folder


def questions(count: int = 12, seed: int = 0, vocabulary: int = 256) -> list[list[Loglikelihood]]:
    """Items of 4 choices: short contexts and long ones, whole numbers of cache blocks and not, one token and several,
    long common beginnings."""
    draw = random.Random(seed)

    def tokens(n: int) -> tuple[int, ...]:
        return tuple(draw.randrange(1, vocabulary) for _ in range(n))

    items = []
    for number in range(count):
        context = tokens((5, 12, BLOCK, 2 * BLOCK, 2 * BLOCK + 6, 3 * BLOCK - 1)[number % 6])
        # Continuations with more than a block in common lie in the prefix cache beyond their context.
        common = tokens(BLOCK + 3) if number % 6 == 3 else ()
        length = 1 if number % 4 == 1 else 4
        items.append([Loglikelihood(context, common + tokens(length)) for _ in range(4)])
    return items


def exam(count: int = 12) -> Batch:
    """All questions, one of them twice, and three generations."""
    requests = [request for item in questions(count) for request in item]
    prompts = (tuple(range(40, 52)), tuple(range(50, 90)), (7,))  # ASCII letters and signs
    return Batch((*requests, requests[0]), tuple(Generation(prompt, ("a", "eq"), 24) for prompt in prompts))


class Hearing:
    """A watch that keeps what it hears, and wants no more once it has heard `enough` parts."""

    def __init__(self, stops: range, enough: int = 10**9) -> None:
        self.stops, self.enough = stops, enough
        self.starts = 0
        self.heard: list[Answers] = []

    def start(self) -> range:
        self.starts, self.heard = self.starts + 1, []
        return self.stops

    def go_on(self, answers: Answers) -> bool:
        self.heard.append(answers)
        return len(self.heard) < self.enough


def begins(whole: Answers, part: Answers) -> bool:
    """Whether `part` is a beginning of `whole`, to the last bit, texts after log-likelihoods."""
    scored, written = len(part.loglikelihood), len(part.generation)
    in_order = not written or scored == len(whole.loglikelihood)
    return in_order and (part.loglikelihood, part.generation) == (
        whole.loglikelihood[:scored],
        whole.generation[:written],
    )
