"""How long a run may take where no earlier one tells: from the machine's speed and the numbers of parameters and items.
An order of magnitude, no more."""

from time import perf_counter
from typing import Any, cast

import torch

from evals.suites.suite import Suite

TOKENS = 100
"""Tokens of an item with its answer, and of each example before it: the quickstart's have 30, reading tasks 400."""
OVERHEAD = 0.002
"""Seconds of an item beside the model's own: making requests, scheduling, scoring."""
FACTOR = 5.0
"""Either way: what tokens, the engine's use of the machine, and items that are never judged may make of it."""
_SIZE = 1024


def guess(suite: Suite, judgements: int, parameters: int, threads: int) -> tuple[float, float] | None:
    """Returns the least and the most seconds of so many judgements, most likely; None where a benchmark has no limit of
    items.

    Args:
        suite: that is judged on.
        judgements: of models, on the optimisation split.
        parameters: elements of one model.
        threads: of the engine.
    """
    if any("optimisation" not in one.limits for one in suite.benchmarks):
        return None
    items = sum(one.limits["optimisation"] for one in suite.benchmarks)
    tokens = sum(one.limits["optimisation"] * TOKENS * (1 + one.prompting.num_fewshot) for one in suite.benchmarks)
    middle = judgements * (items * OVERHEAD + tokens * 2 * parameters / speed(threads))
    return middle / FACTOR, middle * FACTOR


def speed(threads: int) -> float:
    """Returns the floating-point operations a second of this machine's matrix products, as its engine computes: float32
    on a CPU, bfloat16 on a GPU."""
    on_gpu, before = torch.cuda.is_available(), torch.get_num_threads()
    matrix = torch.ones(
        _SIZE, _SIZE, dtype=torch.bfloat16 if on_gpu else torch.float32, device="cuda" if on_gpu else "cpu"
    )
    torch.set_num_threads(threads)
    try:
        return 2 * _SIZE**3 / min(_seconds(matrix) for _ in range(8))
    finally:
        torch.set_num_threads(before)


def _seconds(matrix: torch.Tensor) -> float:
    begin = perf_counter()
    cast(Any, matrix @ matrix).sum().item()  # waits for a GPU
    return perf_counter() - begin
