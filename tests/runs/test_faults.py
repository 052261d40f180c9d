"""Every call by which a run's folder is written, made to fail or to be the last thing that the process does: nothing
acknowledged is lost, and the same command ends as if nothing had happened. The faults are strace's: real system calls
of a real process."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from places import ROOT
from psomerge.run.folder import RunFolder, run_key

CALLS = ("write", "pwrite64", "fsync", "rename", "ftruncate", "fchmod")
IDENTITY = {"config": "faults"}
ENTRIES = 4

WORK = f"""
import os, sys
from pathlib import Path
from psomerge.errors import PsomergeError
from psomerge.run.folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1]), {IDENTITY!r}, now="2026-01-01") as run:
        for number in range(len(run.journal.entries), {ENTRIES}):
            run.journal.append({{"kind": "judgement", "key": str(number), "fitness": number / 10}})
            os.writev(1, [b"%d\\n" % number])  # acknowledged, by a call that no fault hits
        run.finish({{"judged": len(run.journal.entries)}})
except PsomergeError as error:
    os.writev(2, [str(error).encode()])
    os._exit(error.exit_code)
"""

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")]


def work(root: Path, *strace: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*strace, sys.executable, "-c", WORK, str(root)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


def traced(log: Path, call: str, *options: str) -> Sequence[str]:
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", *options]


def state(root: Path) -> tuple[bytes, object]:
    """Journal and result, read by a process that nothing disturbs."""
    with RunFolder(root, IDENTITY, now="later") as run:
        return run.journal.path.read_bytes(), run.result()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, object]:
    root = tmp_path_factory.mktemp("undisturbed") / "runs"
    assert work(root).returncode == 0
    return state(root)


@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOSPC", "signal=KILL"])
@pytest.mark.parametrize("call", CALLS)
def test_whichever_call_fails_nothing_acknowledged_is_lost_and_the_same_command_ends_the_same(
    tmp_path: Path, undisturbed: tuple[bytes, object], call: str, fault: str
) -> None:
    log = tmp_path / "trace"
    assert work(tmp_path / "counted", *traced(log, call)).returncode == 0
    calls = len(re.findall(rf"\b{call}\(", log.read_text()))
    assert calls >= 1
    for number in range(1, calls + 1):
        root = tmp_path / f"runs-{number}"
        struck = work(root, *traced(log, call, "-e", f"inject={call}:{fault}:when={number}"))
        assert "INJECTED" in log.read_text() or "killed by SIGKILL" in log.read_text()
        # An error is told in one line with the code for "no room or no right"; or it hit what may fail, and the work is
        # done.
        assert struck.returncode in ((-9, 137) if fault == "signal=KILL" else (6, 0)), (number, struck.stderr)
        if struck.returncode == 6:
            assert "run the same command again" in struck.stderr
            assert "\n" not in struck.stderr
        acknowledged = [str(one) for one in range(len(struck.stdout.splitlines()))]
        assert struck.stdout.split() == acknowledged
        journal = root / run_key(IDENTITY) / "journal.jsonl"
        kept = [json.loads(line)["key"] for line in journal.read_bytes().split(b"\n")[:-1]] if journal.exists() else []
        assert kept[: len(acknowledged)] == acknowledged
        assert work(root).returncode == 0
        assert state(root) == undisturbed
        assert [path.name for path in journal.parent.glob(".*")] == []
