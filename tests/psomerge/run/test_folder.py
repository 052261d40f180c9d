"""A run's folder under crashes, full disks, damage and rivals."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from psomerge.errors import LockedError, SpaceError, StateError
from psomerge.files.durable import write_atomic
from psomerge.run.folder import RunFolder, differences, run_key, unfinished_relatives
from psomerge.run.journal import Journal, parse

pytestmark = pytest.mark.heavy

IDENTITY = {"config": "c0ffee", "code": "0.1.0", "engine": {"name": "vllm", "threads": 2}, "experts": ["aa", "bb"]}
NOW = "2025-01-01T00:00:00+00:00"
KEY = "0123456789abcdef"


def judgement(number: int, fitness: float | None = 0.25) -> dict:
    return {
        "kind": "judgement",
        "key": f"key-{number}",
        "step": number // 3,
        "particle": number % 3,
        "fitness": fitness,
        "failure": None,
        "seconds": {"score": 0.1},
    }


def journal_of(path: Path, length: int) -> bytes:
    journal = Journal(path, KEY)
    for number in range(length):
        journal.append(judgement(number, 0.1 * number))
    journal.close()
    return path.read_bytes()


def reopened(path: Path) -> list[dict]:
    journal = Journal(path, KEY)
    journal.close()
    return list(journal.entries)


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs `code`; what it prints comes through its stdout."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_run_key_names_the_content_and_not_the_order():
    assert run_key({"a": 1, "b": (1, 2)}) == run_key({"b": [1, 2], "a": 1})
    assert run_key({"a": 1}) != run_key({"a": 1.5}) != run_key({"a": "1"})
    # sha256sum of the text {"a":1}
    assert run_key({"a": 1}) == "015abd7f5cc57a2d"


def test_differences_name_what_changed_by_dotted_keys():
    other = {
        "config": "c0ffee",
        "code": "0.2.0",
        "engine": {"name": "vllm", "threads": 2, "dtype": "float32"},
        "experts": ["aa", "cc", "dd"],
    }
    assert differences(IDENTITY, other) == [
        'code: "0.1.0" -> "0.2.0"',
        'engine.dtype: absent -> "float32"',
        'experts.1: "bb" -> "cc"',
        'experts.2: absent -> "dd"',
    ]
    assert differences(IDENTITY, IDENTITY) == []


def test_differences_tell_empty_from_absent_true_from_one_and_shorten_digests():
    assert differences({"a": [], "b": True}, {"b": 1}) == ["a: [] -> absent", "b: true -> 1"]
    (line,) = differences({"digest": "a" * 64}, {"digest": "b" * 64})
    assert len(line) < 80
    assert line.startswith('digest: "aaa')


def test_a_run_goes_on_where_it_was_left(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        assert run.path == tmp_path / run_key(IDENTITY)
        assert run.report.is_dir()
        run.journal.append(judgement(0, 0.1 + 0.2))
        run.journal.append(judgement(1, None))
        run.journal.append({"kind": "mlflow", "run_id": "one"})
        run.journal.append({"kind": "mlflow", "run_id": "two"})
    with RunFolder(tmp_path, IDENTITY, now="later") as run:
        found, failed, tracked = (
            *run.journal.entries[:2],
            run.journal.last("mlflow"),
        )
        assert tracked is not None
        assert (found["key"], failed["key"]) == ("key-0", "key-1")
        assert found["fitness"] == 0.1 + 0.2
        assert failed["fitness"] is None
        assert tracked["run_id"] == "two"
        assert run.journal.last("registered") is None
        assert len(run.journal.entries) == 4
        assert json.loads((run.path / "run.json").read_text())["created"] == NOW


def test_a_result_is_there_only_after_finish(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        run.journal.append(judgement(0))
        assert run.result() is None
        run.finish({"version": 3, "fitness": 0.1, "alias": None})
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        assert run.result() == {"version": 3, "fitness": 0.1, "alias": None}


def test_a_result_without_the_journal_that_it_was_made_from_is_damage(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        run.journal.append(judgement(0))
        run.journal.append(judgement(1))
        run.finish({"version": 3})
    # A cut between two lines breaks no chain: only the result knows of the line that is gone.
    lines = (run.path / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "journal.jsonl").write_bytes(lines[0])
    with (
        RunFolder(tmp_path, IDENTITY, now=NOW) as run,
        pytest.raises(StateError, match=r"journal\.jsonl: expected the line"),
    ):
        run.result()


@pytest.mark.parametrize("name", ["run.json", "result.json"])
def test_a_state_file_that_was_cut_or_flipped_is_refused(tmp_path: Path, name: str):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        run.finish({"version": 3})
    path = run.path / name
    sound, draw = path.read_bytes(), random.Random(0)
    damaged = [sound[:cut] for cut in range(len(sound))]
    damaged += [flipped(sound, draw.randrange(8 * len(sound))) for _ in range(100)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(StateError, match=name), RunFolder(tmp_path, IDENTITY, now=NOW) as run:
            run.result()


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_an_unfinished_run_of_the_same_config_says_what_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    done, other = IDENTITY | {"code": "0.0.9"}, IDENTITY | {"config": "decaf"}
    with RunFolder(tmp_path, done, now=NOW) as run:
        run.finish({})
    for identity in (IDENTITY, other):
        with RunFolder(tmp_path, identity, now=NOW):
            pass
    (relative,) = unfinished_relatives(tmp_path, IDENTITY | {"code": "0.2.0"})
    assert relative.path == tmp_path / run_key(IDENTITY)
    assert relative.differences == ('code: "0.1.0" -> "0.2.0"',)
    assert unfinished_relatives(tmp_path, IDENTITY) == []
    with RunFolder(tmp_path, IDENTITY | {"code": "0.2.0"}, now=NOW):
        assert 'code: "0.1.0" -> "0.2.0"' in caplog.text


def test_a_journal_cut_at_any_byte_is_a_prefix_of_whole_lines(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    data = journal_of(path, 3)
    entries = reopened(path)
    for cut in range(len(data)):
        assert parse(data[:cut], path, KEY) == entries[: data[:cut].count(b"\n")]
    for cut in range(0, len(data), 5):
        path.write_bytes(data[:cut])
        assert reopened(path) == entries[: data[:cut].count(b"\n")]
        # What was torn is gone from the file too: the next line begins on a line of its own.
        assert path.read_bytes() == data[: data[:cut].rfind(b"\n") + 1]


def test_a_journal_goes_on_after_a_torn_line_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "journal.jsonl"
    whole = journal_of(path, 3)
    path.write_bytes(whole[:-5])
    journal = Journal(path, KEY)
    journal.append(judgement(2, 0.1 * 2))
    journal.close()
    assert "dropped an unfinished last line" in caplog.text
    assert path.read_bytes() == whole


def test_a_flipped_bit_anywhere_in_a_journal_is_found(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    data, draw = journal_of(path, 4), random.Random(0)
    entries = reopened(path)
    bits = [draw.randrange(8 * len(data)) for _ in range(300)] + [8 * (len(data) - 1) + bit for bit in range(8)]
    dropped = 0
    for bit in bits:
        try:
            found = parse(flipped(data, bit), path, KEY)
        except StateError:
            continue
        # A flip of the very last byte, the newline, looks like a write that never ended: that line goes.
        assert bit // 8 == len(data) - 1
        assert found == entries[:-1]
        dropped += 1
    assert dropped >= 8


@pytest.mark.parametrize(
    ("order", "line"),
    [([1, 2, 3], 1), ([0, 2, 3], 2), ([0, 2, 1, 3], 2), ([0, 1, 1, 2, 3], 3), ([3], 1)],
    ids=["first line missing", "line missing", "lines swapped", "line repeated", "only the last"],
)
def test_a_missing_or_moved_line_is_named(tmp_path: Path, order: list[int], line: int):
    path = tmp_path / "journal.jsonl"
    lines = journal_of(path, 4).splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(
        StateError, match=rf"journal\.jsonl, line {line}: .*it does not follow the line before.*move the folder"
    ):
        Journal(path, KEY)


def test_a_journal_of_another_run_is_refused(tmp_path: Path):
    journal_of(tmp_path / "journal.jsonl", 2)
    with pytest.raises(StateError, match="line 1"):
        Journal(tmp_path / "journal.jsonl", "fedcba9876543210")


@pytest.mark.parametrize(
    "inside", [b"\n", b"{}\n", b"[1]\n", b"null\n", b'{"a":NaN}\n', b"\x00\x00\n", b'{"a":1,"a":2}\n']
)
def test_foreign_lines_in_a_journal_are_damage(tmp_path: Path, inside: bytes):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(journal_of(path, 1) + inside)
    with pytest.raises(StateError, match="line 2"):
        Journal(path, KEY)


@pytest.mark.parametrize(
    "entry",
    [
        judgement(0, float("nan")),
        judgement(0, float("inf")),
        {"step": 1},
        {"kind": "x", "previous": "y"},
        {"kind": "x", "sha256": "y"},
    ],
    ids=["nan", "infinity", "no kind", "own previous", "own digest"],
)
def test_an_entry_that_the_journal_cannot_hold_is_refused_and_leaves_no_trace(tmp_path: Path, entry: dict):
    journal = Journal(tmp_path / "journal.jsonl", KEY)
    with pytest.raises(ValueError):
        journal.append(entry)
    journal.append(judgement(0))
    journal.close()
    assert len(reopened(journal.path)) == 1


def test_entries_read_back_as_they_were_given_numbers_as_keys_and_any_script_included(tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl", KEY)
    given = {"kind": "note", "text": "བོད་ཡིག\n\ud800", "by": {10: 0.1, 9: 1e-300, 1: -0.0}}
    returned = journal.append(given)
    journal.close()
    (read,) = reopened(journal.path)
    assert read == returned
    assert read["text"] == given["text"]
    assert [read["by"][name].hex() for name in ("10", "9", "1")] == [value.hex() for value in (0.1, 1e-300, -0.0)]


def test_threads_may_append_to_one_journal(tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl", KEY)
    threads = [
        threading.Thread(target=lambda first=first: [journal.append(judgement(first + i)) for i in range(20)])
        for first in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert len({entry["key"] for entry in reopened(journal.path)}) == 60


def test_somebody_elses_line_is_noticed_before_the_next_is_written(tmp_path: Path):
    journal = Journal(tmp_path / "journal.jsonl", KEY)
    journal.append(judgement(0))
    with journal.path.open("ab") as file:
        file.write(b"hello\n")
    with pytest.raises(StateError, match="something else wrote here"):
        journal.append(judgement(1))
    journal.close()


HOLDER = """
import sys, time
from pathlib import Path
from psomerge.run.folder import RunFolder
with RunFolder(Path(sys.argv[1]), {"config": "c"}, now="2025-01-01T10:00:00+00:00") as run:
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Generator[subprocess.Popen[str]]:
    process = child(HOLDER, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_run_on_a_folder_is_told_at_once_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]):
    began = time.monotonic()
    with pytest.raises(
        LockedError, match=f"held by process {holder.pid} on {os.uname().nodename} since 2025-01-01T10:00:00"
    ):
        RunFolder(tmp_path, {"config": "c"}, now=NOW)
    assert time.monotonic() - began < 1


def test_a_killed_run_gives_its_folder_back(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunFolder(tmp_path, {"config": "c"}, now=NOW) as run:
        assert json.loads((run.path / "LOCK").read_text())["pid"] == os.getpid()


def test_a_rival_in_the_same_process_is_refused_and_a_closed_folder_is_free(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW), pytest.raises(LockedError, match=str(os.getpid())):
        RunFolder(tmp_path, IDENTITY, now=NOW)
    with RunFolder(tmp_path, IDENTITY, now=NOW):
        pass


def test_a_folder_that_could_not_be_opened_stays_free(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        run.journal.append(judgement(0))
    sound = (run.path / "journal.jsonl").read_bytes()
    (run.path / "journal.jsonl").write_bytes(b"x" + sound)
    with pytest.raises(StateError):
        RunFolder(tmp_path, IDENTITY, now=NOW)
    (run.path / "journal.jsonl").write_bytes(sound)
    with RunFolder(tmp_path, IDENTITY, now=NOW):
        pass


def test_a_dead_process_is_not_named_as_the_holder(tmp_path: Path):
    dead = child("pass")
    dead.communicate()
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        # The moment between another run's taking the lock of a killed one and its writing its name.
        (run.path / "LOCK").write_text(json.dumps({"pid": dead.pid, "host": os.uname().nodename, "since": "yesterday"}))
        with pytest.raises(LockedError, match="a process that has not written its name yet"):
            RunFolder(tmp_path, IDENTITY, now=NOW)


RIVAL = """
import sys, time
from pathlib import Path
from psomerge.errors import LockedError
from psomerge.run.folder import RunFolder
while not (Path(sys.argv[1]) / "go").exists():
    time.sleep(0.001)
try:
    with RunFolder(Path(sys.argv[1]), {"config": "c"}, now="now"):
        print("won", flush=True)
        sys.stdin.read()
except LockedError as error:
    print(error, flush=True)
"""


def test_of_runs_that_start_together_one_wins_and_the_others_name_it(tmp_path: Path):
    # What a run that was killed left in the lock: nobody may take it for the holder.
    dead = child("pass")
    dead.communicate()
    folder = tmp_path / run_key({"config": "c"})
    folder.mkdir()
    (folder / "LOCK").write_text(json.dumps({"pid": dead.pid, "host": os.uname().nodename, "since": "yesterday"}))
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    (tmp_path / "go").touch()
    said = {rival.pid: rival.stdout.readline() for rival in rivals if rival.stdout}
    for rival in rivals:
        rival.communicate()
    (winner,) = [pid for pid, line in said.items() if line == "won\n"]
    assert all(f"held by process {winner} on" in line for pid, line in said.items() if pid != winner)


APPENDER = """
import sys
from pathlib import Path
from psomerge.run.folder import RunFolder
with RunFolder(Path(sys.argv[1]), {"config": "c"}, now="now") as run:
    first = len(run.journal.entries)
    for number in range(first, 10**9):
        padding = "x" * (number % 9000)
        run.journal.append({"kind": "judgement", "key": str(number), "number": number, "padding": padding})
        print(number, flush=True)
"""


def test_a_run_killed_at_random_loses_nothing_that_was_acknowledged(tmp_path: Path):
    draw, acknowledged = random.Random(0), -1
    for _ in range(20):
        process = child(APPENDER, tmp_path)
        assert process.stdout is not None
        said = [process.stdout.readline()]
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        said += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        acknowledged = max(acknowledged, *(int(line) for line in said if line.endswith("\n")))
        with RunFolder(tmp_path, {"config": "c"}, now=NOW) as run:
            numbers = [entry["number"] for entry in run.journal.entries]
        assert numbers == list(range(len(numbers)))
        assert acknowledged < len(numbers) <= acknowledged + 2


INTERRUPTED = """
import random, signal, sys
from pathlib import Path
from psomerge.run.journal import Journal
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
journal, draw, interrupts = Journal(Path(sys.argv[1]), "0123456789abcdef"), random.Random(0), 0
for number in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, (1e-3, 1e-2)[number % 2]))
        while True:
            journal.append({"kind": "judgement", "key": "k"})
    except KeyboardInterrupt:
        interrupts += 1
journal.append({"kind": "end", "count": len(journal.entries)})
print(interrupts)
"""


def test_a_journal_stays_whole_when_its_process_is_interrupted_and_goes_on(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    assert (
        subprocess.run(
            [sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True, check=True
        ).stdout
        == "300\n"
    )
    entries = reopened(path)
    assert entries[-1]["count"] == len(entries) - 1 > 10


FULL = """
import resource, sys
from pathlib import Path
from psomerge.errors import SpaceError
from psomerge.run.journal import Journal
journal = Journal(Path(sys.argv[1]), "0123456789abcdef")
journal.append({"kind": "note", "text": "first"})
size = journal.path.stat().st_size
for room in range(size, size + 100):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        journal.append({"kind": "note", "text": "too much"})
    except SpaceError as error:
        assert "make room" in str(error), error
    else:
        sys.exit("wrote past the limit")
    assert journal.path.stat().st_size == size and len(journal.entries) == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append({"kind": "note", "text": "second"})
journal.close()
"""


def test_a_write_that_finds_no_room_leaves_no_half_line(tmp_path: Path):
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "journal.jsonl")], check=True)
    assert [entry["text"] for entry in reopened(tmp_path / "journal.jsonl")] == ["first", "second"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("cannot mount a small disk here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_run_on_a_full_disk_stops_and_goes_on_once_there_is_room(small_disk: Path):
    written = 0
    with RunFolder(small_disk, IDENTITY, now=NOW) as run:
        (small_disk / "ballast").write_bytes(bytes(16384))
        for number in range(1000):
            try:
                run.journal.append(judgement(number))
            except SpaceError:
                break
            written += 1
        assert 0 < written < 1000
        with pytest.raises(SpaceError, match="No space left"):
            run.finish({"padding": "x" * 8192})
        assert sorted(path.name for path in run.path.iterdir()) == ["LOCK", "journal.jsonl", "report", "run.json"]
        (small_disk / "ballast").unlink()
        run.journal.append(judgement(written))
    with RunFolder(small_disk, IDENTITY, now=NOW) as run:
        assert [entry["key"] for entry in run.journal.entries] == [f"key-{number}" for number in range(written + 1)]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SpaceError, match=r"file/.*: expected to write here, found: Not a directory"):
        RunFolder(tmp_path / "file", IDENTITY, now=NOW)


def test_an_atomic_write_replaces_the_whole_file_and_others_may_read_it(tmp_path: Path):
    path = tmp_path / "result.json"
    write_atomic(path, b"old and long")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_atomic_write_keeps_the_old_file_and_leaves_nothing_behind(small_disk: Path):
    path = small_disk / "result.json"
    write_atomic(path, b"old")
    with pytest.raises(SpaceError, match=r"result\.json.*No space left"):
        write_atomic(path, bytes(10**6))
    assert path.read_bytes() == b"old"
    assert list(small_disk.iterdir()) == [path]


def test_what_a_killed_atomic_write_left_is_removed_at_the_next_start(tmp_path: Path):
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        (run.path / ".result.json.abc.tmp").write_bytes(b"half")
    with RunFolder(tmp_path, IDENTITY, now=NOW) as run:
        assert not (run.path / ".result.json.abc.tmp").exists()
