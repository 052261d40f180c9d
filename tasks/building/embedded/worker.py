"""The process that trains some embedded models, one after the other: `python -m psomerge.tasks.building.embedded.worker
FOLDER SEED EFFORT THREADS PIPE NAME...`.

A process of its own because the number of threads belongs to the bits of the result, and so that two models train at
once. It writes one JSON object a line to the inherited file descriptor PIPE: `{"model": "so", "share": 0.25}` while it
trains, `{"error": "SpaceError", "text": "..."}` for an error to show the user. When the reader is gone, the next line
fails, and the process ends with it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from psomerge.errors import PsomergeError
from psomerge.files.durable import sync
from psomerge.files.staging import staged
from psomerge.tasks.building.embedded.recipe import STAGES

SECONDS_BETWEEN_LINES = 0.3
BYTES = 4 * 2**20
"""A model's folder, rounded up."""


def main() -> int:
    """Trains the models that the command line names; returns the exit status."""
    folder, seed, effort, threads, pipe, *names = sys.argv[1:]
    import torch

    torch.set_num_threads(int(threads))

    def tell(message: dict[str, object]) -> None:
        os.write(int(pipe), (json.dumps(message) + "\n").encode())  # short enough that lines of two workers never mix

    try:
        for name in names:
            train_into(
                Path(folder),
                name,
                seed=int(seed),
                effort=float(effort),
                report=_seldom(lambda share, name=name: tell({"model": name, "share": share})),
            )
    except PsomergeError as error:
        tell({"error": type(error).__name__, "text": str(error)})
        return error.exit_code
    return 0


def train_into(folder: Path, name: str, *, seed: int, effort: float, report: Callable[[float], None]) -> None:
    """Trains one model and puts it at `folder/name`, whole or not at all. An expert starts from `folder/base` as it was
    written.

    Args:
        folder: of the models of this seed.
        name: one of `recipe.MODELS`.
        seed: of the models.
        effort: share of the recipe's tokens, in (0, 1].
        report: called with the share done, in [0, 1], after every step; never with 1 before the model is in its place.

    Raises:
        SpaceError, ConfigError: the folder is full, cannot be written or is taken; nothing is left behind.
    """
    from psomerge.tasks.building.embedded.blocks import blocks_of, read_tokenizer, train_tokenizer
    from psomerge.tasks.building.embedded.training import fit, new_model, read_model, save_model

    tokenizer = train_tokenizer(seed) if name == "base" else read_tokenizer(folder / "base")
    model = new_model(seed) if name == "base" else read_model(folder / "base")
    ids, weights = blocks_of(tokenizer, name, seed, effort=effort)
    fit(model, ids, weights, rate=STAGES[name].rate, progress=lambda share: report(0.99 * share))
    with staged(folder / name, BYTES) as unfinished:
        save_model(model, tokenizer, unfinished)
        _settle(unfinished)
    report(1.0)


def _settle(folder: Path) -> None:
    """Makes the folder's files readable to others and forces them to disk: safetensors does neither."""
    for path in folder.iterdir():
        path.chmod(0o644)
        sync(path)


def _seldom(report: Callable[[float], None]) -> Callable[[float], None]:
    """Returns a function that passes on the first value, the last one (1.0), and others not more often than anyone
    wants to read."""
    latest = float("-inf")

    def pass_on(share: float) -> None:
        nonlocal latest
        if share >= 1 or time.monotonic() - latest >= SECONDS_BETWEEN_LINES:
            latest = time.monotonic()
            report(share)

    return pass_on


if __name__ == "__main__":
    sys.exit(main())
