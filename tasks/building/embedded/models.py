"""All embedded models of a seed: trains those that are missing, the base first, then the experts two at a time.

Which process trains what is decided here; how a model is trained is `training`'s. Imports neither torch nor
transformers.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from psomerge import errors
from psomerge.files.locking import lock
from psomerge.tasks.building.embedded.recipe import MODELS, STAGES

BASE_THREADS = 2
"""Fixed, whatever the machine has: the number belongs to the bits of the result. An expert has one."""
BASE_COST = 1.8
"""Wall time of a token of the base, on two threads, over that of an expert's, two at a time on a thread each. For the
remaining time only."""


def train(folder: Path, *, seed: int, progress: Callable[[str, float], None], effort: float = 1.0) -> dict[str, Path]:
    """Returns the folders of the base and the experts, by name, after training those that are not there yet.

    Equal seeds give equal bits on one machine. A model appears in the folder when it is whole, so what was interrupted
    goes on with what is missing.

    Args:
        folder: of the models of this seed (`recipe.embedded_folder`); made if missing. A second process waits until the
            first is done.
        seed: of weights, tokenizer, text and order.
        progress: called with what is being done and the share done of what was missing, in [0, 1].
        effort: share of the recipe's tokens, in (0, 1]; below 1 the models know little, but are models.

    Raises:
        SpaceError: the folder is full or cannot be written.
        ConfigError: the place of a model is taken by something else.
        PsomergeError: a training process died.
    """
    with lock(folder, "trains the same models", progress):
        missing = [name for name in MODELS if not (folder / name / "config.json").is_file()]
        watched = _shares(missing, progress)
        order = [str(folder.absolute()), str(seed), str(effort)]
        if "base" in missing:
            _run_workers(order, [["base"]], BASE_THREADS, watched)
        _run_workers(order, _teams([name for name in missing if name != "base"]), 1, watched)
    return {name: folder / name for name in MODELS}


def _teams(experts: Sequence[str]) -> list[list[str]]:
    """Splits experts over at most two processes so that they end at about the same time: the longest first, to whoever
    has less to do."""
    teams: list[list[str]] = [[], []]
    for expert in sorted(experts, key=lambda name: -STAGES[name].tokens):
        min(teams, key=lambda team: sum(STAGES[name].tokens for name in team)).append(expert)
    return [team for team in teams if team]


def _shares(missing: Sequence[str], progress: Callable[[str, float], None]) -> Callable[[str, float], None]:
    """Returns a function of (model, share of it done) that tells `progress` the share of the whole, in expected wall
    time."""
    cost = {name: STAGES[name].tokens * (BASE_COST if name == "base" else 1.0) for name in missing}
    done = dict.fromkeys(missing, 0.0)

    def report(name: str, share: float) -> None:
        done[name] = share
        running = [model for model in missing if 0 < done[model] < 1] or [name]
        progress(
            f"training {', '.join(running)}", sum(cost[model] * done[model] for model in missing) / sum(cost.values())
        )

    return report


def _run_workers(
    order: Sequence[str], teams: Sequence[Sequence[str]], threads: int, report: Callable[[str, float], None]
) -> None:
    """Trains the teams' models, a process for each team, and returns when all have ended; ends them when
    interrupted."""
    reading, telling = os.pipe()
    workers: list[subprocess.Popen[bytes]] = []
    with open(reading) as lines, tempfile.TemporaryFile() as complaints:
        try:
            try:
                workers += [
                    _start([*order, str(threads), str(telling), *team], threads, telling, complaints) for team in teams
                ]
            finally:
                os.close(telling)
            failure = _listen(lines, report)
            statuses = [worker.wait() for worker in workers]
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
        if failure:
            raise failure
        if any(statuses):
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            raise errors.PsomergeError(
                f"{order[0]}: expected the training processes to end with status 0, found {statuses}: {''.join(last)}"
            )


def _start(order: Sequence[str], threads: int, pipe: int, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: a folder called `tasks` in the current folder must not be taken for ours.
    command = [sys.executable, "-P", "-m", "psomerge.tasks.building.embedded.worker", *order]
    # passive: threads that spin while they wait for each other make a step 30 times slower as soon as another process
    # wants a core.
    settings = {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=complaints,
        stderr=complaints,
        pass_fds=(pipe,),
        env=os.environ | settings,
    )


def _listen(lines: IO[str], report: Callable[[str, float], None]) -> errors.PsomergeError | None:
    """Passes on what the workers tell until all of them have ended; returns the error that one of them had, to be
    raised."""
    failure = None
    for line in lines:
        message = json.loads(line)
        if "error" in message:
            failure = getattr(errors, message["error"])(message["text"])
        else:
            report(message["model"], message["share"])
    return failure
