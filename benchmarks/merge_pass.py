"""The merge pass beside the machine's copy bandwidth: base + 4 bf16 experts, with and without their DARE copies."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.measure import interleaved, median_ratio
from benchmarks.models import LARGE, SMALL, make_models
from psomerge.merge.basis import Basis, open_basis
from psomerge.recipe import Recipe, Source

COEFFICIENTS = (0.3, 0.5, 0.2, 0.4, 0.1, 0.2, 0.3, 0.1)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--eager-only", action="store_true", help="no compiler needed")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns seconds a model and the share of copy bandwidth, by case."""
    folders = make_models(scratch / "models", SMALL if options.small else LARGE, 4)
    found: dict[str, Any] = {}
    before = torch.get_num_threads()
    try:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for compiled in (False,) if options.eager_only else (True, False):
                basis = open_basis(folders, compiled=compiled)
                for label, recipe in recipes(basis).items():
                    name = (
                        f"{'compiled' if compiled else 'eager'}, {label}, {threads} thread{'s' if threads > 1 else ''}"
                    )
                    found[name] = measure(basis, recipe, options.rounds)
    finally:
        torch.set_num_threads(before)
    return found


def recipes(basis: Basis) -> dict[str, Recipe]:
    """Returns the recipes that are timed, by label."""
    base, *experts = (Source(one.name, str(one.folder), "0" * 40) for one in (basis.base, *basis.experts))
    n = len(experts)
    plain = Recipe(base, tuple(experts)).with_coefficients([COEFFICIENTS[:n]])
    masked = plain.with_coefficients([COEFFICIENTS[: 2 * n]])
    return {
        "experts only": plain,
        "with DARE copies": masked,
        "with DARE copies, float32 out": replace(masked, dtype="float32"),
    }


def measure(basis: Basis, recipe: Recipe, rounds: int) -> dict[str, float]:
    """Returns seconds, GB/s and shares of the copy bandwidth of making the model once; copy and pass take turns.

    The bytes that must move: base and experts read, the output written, in their dtypes. The copy reads and writes two
    touched buffers of half as many.
    """
    output = 4 if recipe.dtype == "float32" else 2
    moved = basis.parameters() * (2 * (1 + len(basis.experts)) + output)
    source, target = torch.ones(moved // 4, dtype=torch.bfloat16), torch.zeros(moved // 4, dtype=torch.bfloat16)

    def make() -> None:
        for _ in basis.merged_tensors(recipe):
            pass

    copies, passes = interleaved([lambda: target.copy_(source), make], rounds)
    return {
        "seconds": median(one.wall for one in passes),
        "gigabytes_a_second": moved / 1e9 / median(one.wall for one in passes),
        "copy_gigabytes_a_second": moved / 1e9 / median(one.wall for one in copies),
        "share_of_copy": median_ratio(copies, passes),
        "share_of_copy_by_fastest": min(one.wall for one in copies) / min(one.wall for one in passes),
        "share_of_copy_by_cpu_time": median_ratio(copies, passes, "cpu"),
    }
