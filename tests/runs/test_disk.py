"""What happens to files while a run goes on: the disk fills up, an expert is overwritten. One line, the right exit
code, and nothing lost."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs.small_run import Small, small_run
from runs.watched_run import MOMENTS, PATIENCE, STEPS, Moment, Running, again, of_this_run, outcome, versions

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(place)], check=False, capture_output=True
    ).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def filled_at(small: Small, moment: Moment) -> tuple[int, str, str]:
    """How a run ends whose disk is full from that moment on; then there is room again."""
    running = Running(small)
    running.wait_for(moment)
    ballast = small.folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            ended = running.ended(PATIENCE)
    ballast.unlink()
    return ended


def test_a_disk_that_fills_up_ends_the_run_with_one_line_and_with_room_it_goes_on_to_the_same_end(disk: Path) -> None:
    small = small_run(disk / "small", swarm=STEPS)
    for moment in (MOMENTS[3], MOMENTS[5]):
        code, out, said = filled_at(small, moment)
        assert (code, out) == (6, ""), said[-3000:]
        assert said.splitlines()[-1].startswith(f"psomerge: {small.home}") or said.splitlines()[-1].startswith(
            "psomerge: no room is left in "
        ), said[-3000:]
        assert said.splitlines()[-1].endswith("run the same command again")
        assert "Traceback" not in said
        assert of_this_run(small) == []
    code, out, said = Running(small).ended(PATIENCE)
    assert code == 0, said[-3000:]
    interrupted = outcome(small, json.loads(out))
    assert versions(small) == ["1"]
    code, out, said = Running(again(small.folder)).ended(PATIENCE)
    assert code == 0, said[-3000:]
    assert outcome(small, json.loads(out)) == interrupted


def test_an_expert_that_is_overwritten_during_a_run_is_named_and_none_of_its_judgements_count(tmp_path: Path) -> None:
    small = small_run(tmp_path / "small", swarm=STEPS)
    running = Running(small)
    running.wait_for(MOMENTS[3])
    weights = small.folder / "expert1" / "model.safetensors"
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)  # whoever reads the mapped rest is ended by the system
    known = (small.runs[0] / "journal.jsonl").read_bytes()
    code, out, said = running.ended(PATIENCE)
    assert (code, out) == (3, ""), said[-3000:]
    assert said.splitlines()[-1].startswith(f'psomerge: "expert1": {weights} changed while it was used; ')
    assert "Traceback" not in said
    after = (small.runs[0] / "journal.jsonl").read_bytes()
    assert after.startswith(known)
    assert after.count(b"\n") <= known.count(b"\n") + 1  # one judgement may have ended just before
    assert of_this_run(small) == []
