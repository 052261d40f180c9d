import math
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest

from places import TESTS
from psomerge.errors import ArtefactError, EngineError
from psomerge.evals.engines.engine import Answers, Batch, Continuation, ModelError
from psomerge.evals.engines.host import start_time
from psomerge.evals.engines.process import leftovers, messages
from psomerge.evals.engines.process.child import Child
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from runs.engine_cases import SETTINGS, Hearing, begins, exam, family, mixed
from runs.small_run import abandoned_memory

pytestmark = pytest.mark.heavy

A = mixed(0.7, 0.4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return family(tmp_path_factory.mktemp("family"), tied=True)


def supervised(
    folders: dict[str, Path], root: Path, kind: str = "transformers", **settings: object
) -> closing[SupervisedEngine]:
    return closing(
        SupervisedEngine(folders, kind, replace(SETTINGS, **settings), work=root / "work", log=root / "engine.log")
    )


def members(group: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and fields[0] != "Z" and int(fields[2]) == group:
            found.append(int(entry.name))
    return found


def gone_within(seconds: float, pid: int) -> bool:
    end = monotonic() + seconds
    while start_time(pid) is not None and monotonic() < end:
        sleep(0.05)
    return start_time(pid) is None


def test_a_killed_and_a_frozen_engine_are_noticed_replaced_and_leave_nothing(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with supervised(folders, tmp_path, "vllm", deadline_s=30.0) as engine:
        exams = exam()
        batch = Batch(exams.loglikelihood, exams.generation * 500)  # more than a second of work
        engine.put("long", batch)
        shared = abandoned_memory()
        expected = engine.judge(A, "long")
        for signal_number in (signal.SIGKILL, signal.SIGSTOP):
            pid = engine.pid
            assert pid is not None
            threading.Timer(0.25, os.kill, (pid, signal_number)).start()
            begin = monotonic()
            answers = engine.judge(A, "long")
            assert engine.pid != pid, "the judgement was over before the signal came"
            assert monotonic() - begin < 30.0 + SETTINGS.start_deadline_s
            assert members(pid) == []
            assert (answers.loglikelihood, answers.generation) == (expected.loglikelihood, expected.generation)
            assert len(list((tmp_path / "work").glob("engine-*"))) == 1
        last = engine.pid
        engine.close()
        assert last is not None
        assert members(last) == []
        assert list((tmp_path / "work").glob("engine-*")) == []
        assert abandoned_memory() <= shared


PARENT = """
import sys
from dataclasses import replace
from pathlib import Path
from runs.engine_cases import SETTINGS, Hearing, begins, exam, mixed
from psomerge.evals.engines.process.supervisor import SupervisedEngine

root = Path(sys.argv[1])
folders = {name: Path(sys.argv[2]) / name for name in ("base", "first", "second")}
engine = SupervisedEngine(folders, "transformers", SETTINGS, work=root / "work", log=root / "engine.log")
engine.capabilities
print(engine.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_an_engine_ends_with_its_killed_parent_and_the_next_start_removes_its_folder(
    folders: dict[str, Path], tmp_path: Path, frozen: bool
) -> None:
    variables = os.environ | {"PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(folders["base"].parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert leftovers.sweep(tmp_path / "work") == [], "a living run's engine is nobody else's business"
        if frozen:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    assert gone_within(5, pid)
    left = list((tmp_path / "work").glob("engine-*"))
    assert len(left) == 1
    assert leftovers.sweep(tmp_path / "work") == left
    assert list((tmp_path / "work").glob("engine-*")) == []


def test_sweep_ends_an_engine_whose_supervisor_is_gone_but_no_process_that_got_its_number(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as sleeper:
        for folder, start in (("engine-ours", start_time(sleeper.pid)), ("engine-reused", "another boot:17")):
            (tmp_path / folder).mkdir()
            gone = '{"pid": 4194303, "start": "x:1"}'
            (tmp_path / folder / "record.json").write_text(
                f'{{"supervisor": {gone}, "engine": {{"pid": {sleeper.pid}, "start": "{start}"}}}}'
            )
        (tmp_path / "engine-ours").rename(tmp_path / "aside")
        leftovers.sweep(tmp_path)
        assert sleeper.poll() is None
        (tmp_path / "aside").rename(tmp_path / "engine-ours")
        leftovers.sweep(tmp_path)
        assert sleeper.wait(5) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_finite_is_the_model_s_fault_and_costs_no_engine(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with supervised(folders, tmp_path) as engine:
        engine.put("exam", exam(2))
        engine.judge(A, "exam")
        pid = engine.pid
        with pytest.raises(ModelError, match="not finite"):
            engine.judge(mixed(1e39, 0.0), "exam")
        assert engine.pid == pid
        assert engine.judge(A, "exam").loglikelihood


def test_a_watched_judgement_crosses_the_pipe_bit_for_bit_and_ends_at_once(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with supervised(folders, tmp_path, max_num_seqs=4) as engine:
        engine.put("exam", exam())  # 49 log-likelihoods, 4 at a time, and 3 texts
        whole = engine.judge(A, "exam")
        hearing = Hearing(range(1, 52))
        watched = engine.judge(A, "exam", hearing)
        assert (watched.loglikelihood, watched.generation, watched.tokens) == (
            whole.loglikelihood,
            whole.generation,
            whole.tokens,
        )
        assert [len(part.loglikelihood) for part in hearing.heard] == [*range(4, 49, 4), 49, 49, 49]
        assert all(begins(whole, part) for part in hearing.heard)
        stopped = engine.judge(A, "exam", Hearing(range(10, 52), 1))
        assert len(stopped.loglikelihood) == 12  # the first whole batch with ten answers
        assert begins(whole, stopped)
        assert engine.judge(A, "exam").loglikelihood == whole.loglikelihood


def test_a_watched_judgement_whose_engine_dies_starts_over(folders: dict[str, Path], tmp_path: Path) -> None:
    class Killing(Hearing):
        def go_on(self, answers):
            if self.starts == 1 and engine.pid is not None:
                os.kill(engine.pid, signal.SIGKILL)
            return super().go_on(answers)

    with supervised(folders, tmp_path, max_num_seqs=4) as engine:
        engine.put("exam", exam())
        whole, killing = engine.judge(A, "exam"), Killing(range(10, 52))
        assert engine.judge(A, "exam", killing).loglikelihood == whole.loglikelihood
        assert killing.starts == 2
        assert len(killing.heard[0].loglikelihood) == 12
        assert all(begins(whole, part) for part in killing.heard)


def test_the_deadline_holds_for_a_watched_judgement_as_a_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    class Slow(Hearing):
        def go_on(self, answers):
            sleep(0.4)
            return super().go_on(answers)

    with supervised(folders, tmp_path, max_num_seqs=4, deadline_s=1.5, restarts=0) as engine:
        engine.put("exam", exam())
        assert engine.capabilities
        with pytest.raises(EngineError, match=r"gave no answer within 2 s"):
            engine.judge(A, "exam", Slow(range(1, 52)))


def test_a_watch_that_is_interrupted_leaves_no_engine_that_waits(folders: dict[str, Path], tmp_path: Path) -> None:
    class Interrupted(Hearing):
        def go_on(self, answers):
            raise KeyboardInterrupt

    with supervised(folders, tmp_path, max_num_seqs=4) as engine:
        engine.put("exam", exam(2))
        expected = engine.judge(A, "exam")
        with pytest.raises(KeyboardInterrupt):
            engine.judge(A, "exam", Interrupted(range(1, 12)))
        assert engine.pid is None
        assert engine.judge(A, "exam").loglikelihood == expected.loglikelihood


def test_a_batch_put_again_under_its_name_is_the_one_that_counts(folders: dict[str, Path], tmp_path: Path) -> None:
    with supervised(folders, tmp_path) as engine:
        engine.put("exam", exam(2))
        assert len(engine.judge(A, "exam").loglikelihood) == 9
        engine.put("exam", exam(1))
        assert len(engine.judge(A, "exam").loglikelihood) == 5


def test_an_interrupted_judgement_is_not_taken_for_the_next_one(folders: dict[str, Path], tmp_path: Path) -> None:
    with supervised(folders, tmp_path) as engine:
        engine.put("exam", exam(2))
        engine.put("long", Batch((), exam().generation * 30))
        expected = engine.judge(A, "exam")
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            engine.judge(A, "long")
        assert engine.pid is None
        assert engine.judge(A, "exam").loglikelihood == expected.loglikelihood


def test_an_engine_that_never_starts_is_an_engine_error_with_its_last_words(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with supervised(folders, tmp_path, dtype="float31", restarts=1) as engine:
        with pytest.raises(EngineError, match=r"died, 2 times; its last words: .*float31"):
            _ = engine.capabilities
        assert engine.pid is None
        assert list((tmp_path / "work").glob("engine-*")) == []


def test_a_broken_checkpoint_is_the_artefact_s_fault_at_the_first_attempt(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with (
        supervised(folders | {"first": tmp_path / "nowhere"}, tmp_path) as engine,
        pytest.raises(ArtefactError, match="nowhere"),
    ):
        _ = engine.capabilities


def test_messages_survive_the_pipe_to_the_last_bit() -> None:
    numbers = (0.1 + 0.2, -1e-310, 1.7976931348623157e308, -math.inf)
    answers = Answers(tuple(Continuation(one, True) for one in numbers), ("é\n" * 70000,), {"score": 0.1})
    message, other = messages.Answered(answers), messages.Refused("late", "EngineError")
    data = messages.frame(message) + messages.frame(other)
    frames, found = messages.Frames(), []
    for begin in range(0, len(data), 4093):
        frames.add(data[begin : begin + 4093])
        while (next_message := frames.next()) is not None:
            found.append(next_message)
    assert found == [message, other]


def test_ending_twice_is_ending_once(folders: dict[str, Path], tmp_path: Path) -> None:
    child = Child(folders, "transformers", SETTINGS, work=tmp_path, log=tmp_path / "log")
    child.end()
    child.end()
    assert members(child.pid) == []
