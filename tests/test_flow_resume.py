"""A run that is killed or interrupted goes on with the same command and ends with the same bits; two processes never share a run."""

import hashlib
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_run import Small, family, kill_all, small_run

from tasks.mlflow_store import Store
from tasks.track import connect

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow")

PATIENCE = 240.0
"""Seconds that a run may need to reach a moment, on a busy machine."""
STEPS = {"initial": "star", "steps": 4}


@dataclass(frozen=True)
class Outcome:
    """What must not depend on how often a run was killed."""

    coefficients: Any
    checkpoint: dict[str, str]
    judgements: dict[str, Any]
    """Fitness and values by key."""
    scores: Any
    decision: Any


@dataclass(frozen=True)
class Moment:
    """When to strike: as soon as `reached` says so of the run's folder (None while there is none) and of what the run said on stderr so far."""

    name: str
    reached: Callable[[Path | None, str], bool]


def lines(folder: Path | None) -> int:
    journal = folder and folder / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal and journal.exists() else 0


def there(folder: Path | None, *parts: str) -> bool:
    return folder is not None and any(folder.glob("/".join(parts)))


MOMENTS = (
    Moment("while requests are built", lambda folder, said: "building requests" in said),
    Moment("while the engine starts", lambda folder, said: there(folder, "engine", "engine-*", "record.json")),
    Moment("after the first judgement", lambda folder, said: lines(folder) >= 1),
    Moment("in the middle of the search", lambda folder, said: lines(folder) >= 9),
    Moment("while the checkpoint is written", lambda folder, said: there(folder, "checkpoint")),
    Moment("while it is registered", lambda folder, said: there(folder, "published")),
    Moment("while it is verified", lambda folder, said: there(folder, "verify", "question.json")),
)


class Running:
    """A run as a process, with what it says read as it says it."""

    def __init__(self, small: Small, *arguments: str) -> None:
        self.small = small
        self.process = small.start("run", str(small.config), "--json", *arguments)
        self._said: list[str] = []
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=lambda stream: self._said.extend(stream), args=(self.process.stderr,), daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        return "".join(self._said)

    @property
    def folder(self) -> Path | None:
        return next(iter(self.small.runs), None)

    def wait_for(self, moment: Moment) -> None:
        end = time.monotonic() + PATIENCE
        while not moment.reached(self.folder, self.said):
            assert self.process.poll() is None, f"ended before: {moment.name}\n{self.said[-3000:]}"
            assert time.monotonic() < end, f"never reached: {moment.name}\n{self.said[-3000:]}"
            time.sleep(0.002)

    def ended(self, seconds: float) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process.stdout as out, self.process.stderr:
            printed = out.read()
            code = self.process.wait(seconds)
            self._reader.join(10)
        return code, printed, self.said


def outcome(small: Small, result: dict[str, Any]) -> Outcome:
    checkpoint = Path(result["checkpoint"])
    entries = [json.loads(line) for line in (small.home / "runs" / result["run"] / "journal.jsonl").read_text().splitlines()]
    judgements = [entry for entry in entries if entry["kind"] == "judgement"]
    keys = [entry["key"] for entry in judgements]
    assert len(keys) == len(set(keys)), "a judgement was made twice"
    return Outcome(
        json.loads(Path(result["recipe"]).read_text())["coefficients"],
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(checkpoint.iterdir())},
        {entry["key"]: (entry["fitness"], entry["values"]) for entry in judgements},
        result["scores"],
        (result["version"], result["alias"], result["promoted"], result["reason"]),
    )


def versions(small: Small) -> list[str]:
    with connect(Store(f"sqlite:///{small.home / 'mlflow.db'}", small.home / "artifacts")) as client:
        return [str(one.version) for one in client.search_model_versions("name = 'small-model'")]


def survivors(victims: list[psutil.Process], seconds: float = 10.0) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    while (alive := [one for one in victims if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]) and time.monotonic() < end:
        time.sleep(0.05)
    return alive


def of_this_run(small: Small) -> list[psutil.Process]:
    """Living processes that were started for this home, by their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PSOMERGE_HOME") == str(small.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


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
                addresses |= {one.laddr.ip for one in process.net_connections(kind="inet") if one.status == psutil.CONN_LISTEN}
            except psutil.Error:
                continue
        time.sleep(0.5)
    code, out, said = running.ended(PATIENCE)
    assert code == 0, said[-3000:]
    assert addresses <= {"127.0.0.1"}, "something listens beyond loopback"
    return outcome(small, json.loads(out))


def again(folder: Path) -> Small:
    """The same checkpoints, suite and config as the undisturbed run's, with an empty home: the same run key."""
    small = Small(folder)
    if small.home.exists():
        small.home.rename(folder / f"home-{len(list(folder.glob('home*')))}")
    return small


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
    assert set(os.listdir("/dev/shm")) <= shared_memory


def test_a_run_killed_again_and_again_ends_with_the_same_bits(folder: Path, undisturbed: Outcome, shared_memory: set[str]) -> None:
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
    assert seconds < 5
    first.wait_for(MOMENTS[2])
    members = family(first.process.pid)
    os.killpg(first.process.pid, signal.SIGINT)  # as a terminal does: the engine leads a group of its own and does not hear it
    begin = time.monotonic()
    code, out, said = first.ended(60)
    assert (code, out) == (130, ""), said[-3000:]
    assert said.rstrip().splitlines()[-1] == "psomerge: interrupted; the same command goes on from here"
    assert "Traceback" not in said
    assert time.monotonic() - begin < 30
    assert survivors(members) == []
    assert of_this_run(small) == []
    assert list((small.runs[0] / "engine").glob("engine-*")) == []
