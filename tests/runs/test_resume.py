"""A run that is killed or interrupted goes on with the same command and ends with the same bits; two processes never
share a run."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from runs.small_run import Small, abandoned_memory, family, kill_all, small_run
from runs.watched_run import (
    MOMENTS,
    PATIENCE,
    STEPS,
    Moment,
    Outcome,
    Running,
    again,
    of_this_run,
    outcome,
    survivors,
    versions,
)

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]


@pytest.fixture(scope="module")
def shared_memory() -> set[str]:
    return abandoned_memory()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_memory: set[str]) -> Path:
    return small_run(tmp_path_factory.mktemp("resume"), swarm=STEPS).folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Outcome:
    small = again(folder)
    running, addresses = Running(small), set()
    while running.process.poll() is None:
        for process in family(running.process.pid):
            try:
                addresses |= {
                    one.laddr.ip for one in process.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN
                }
            except psutil.Error:
                continue
        time.sleep(0.5)
    code, out, said = running.ended(PATIENCE)
    assert code == 0, said[-3000:]
    assert addresses <= {"127.0.0.1"}, "something listens beyond loopback"
    return outcome(small, json.loads(out))


def strike(small: Small, moments: Sequence[Moment]) -> None:
    """One run after another, each killed with all its processes at its moment."""
    for moment in moments:
        running = Running(small)
        running.wait_for(moment)
        victims = kill_all(running.process.pid)
        running.ended(30)
        assert survivors(victims) == []
        assert of_this_run(small) == []


def check_end(small: Small, undisturbed: Outcome, shared_memory: set[str]) -> None:
    """The same command goes on to the same end and leaves nothing behind."""
    code, out, said = Running(small).ended(PATIENCE)
    assert code == 0, said[-3000:]
    assert outcome(small, json.loads(out)) == undisturbed
    assert versions(small) == ["1"]
    (run,) = small.runs
    assert list((run / "engine").glob("engine-*")) == [], "a killed engine's folder was left"
    assert not (run / "verify").exists()
    assert of_this_run(small) == []
    assert abandoned_memory() <= shared_memory


def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    folder: Path, undisturbed: Outcome, shared_memory: set[str]
) -> None:
    small = again(folder)
    strike(small, [MOMENTS[place] for place in (3, 5, 6)])
    check_end(small, undisturbed, shared_memory)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_at_every_moment_and_a_little_later_ends_with_the_same_bits(
    folder: Path, undisturbed: Outcome, shared_memory: set[str], seed: int
) -> None:
    small, draw = again(folder), random.Random(seed)

    def later(moment: Moment) -> Moment:
        delay = draw.uniform(0, 0.5)
        return Moment(moment.name, lambda folder, said: moment.reached(folder, said) and time.sleep(delay) is None)

    strike(small, [later(moment) for moment in MOMENTS])
    check_end(small, undisturbed, shared_memory)


def test_what_a_killed_run_alone_leaves_ends_by_itself_or_at_the_next_start(folder: Path) -> None:
    small = again(folder)
    running = Running(small)
    running.wait_for(MOMENTS[1])
    members = family(running.process.pid)[1:]
    assert len(members) == 2  # the engine, which notices, and Prefect's temporary server, which does not
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait(10)
    next_one = Running(small)  # of the same home
    next_one.wait_for(MOMENTS[0])
    assert survivors(members) == []
    victims = kill_all(next_one.process.pid)
    assert survivors(victims) == []
    for each in (running, next_one):
        each.ended(10)


def test_a_second_process_is_turned_away_at_once_and_ctrl_c_ends_the_first_with_one_line(folder: Path) -> None:
    small = again(folder)
    first = Running(small)
    first.wait_for(MOMENTS[1])
    begin = time.monotonic()
    second = small.psomerge("run", str(small.config), "--json")
    seconds = time.monotonic() - begin
    assert (second.returncode, second.stdout) == (5, "")
    assert re.fullmatch(rf"psomerge: .*held by process {first.process.pid} .*\n", second.stderr), second.stderr
    assert seconds < 20  # most of it imports, beside the first process and another test
    first.wait_for(MOMENTS[2])
    members = family(first.process.pid)
    os.killpg(
        first.process.pid, signal.SIGINT
    )  # as a terminal does: the engine leads a group of its own and does not hear it
    begin = time.monotonic()
    code, out, said = first.ended(60)
    assert (code, out) == (130, ""), said[-3000:]
    assert said.rstrip().splitlines()[-1] == "psomerge: interrupted; the same command goes on from here"
    assert "Traceback" not in said
    assert time.monotonic() - begin < 30
    assert survivors(members) == []
    assert of_this_run(small) == []
    assert list((small.runs[0] / "engine").glob("engine-*")) == []
