"""Nothing bad gets in: every malformed checkpoint of a zoo of 500 is refused in one line, and no sound one is.

Each is handled as an expert is before judging, in a process of its own (`malformed_child`) that may take 10 s and 2 GiB
of resident memory, opens nothing outside the folder, unpickles nothing, runs nothing and says nothing.
"""

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from made import malformed, wellformed
from places import TESTS

pytestmark = pytest.mark.heavy

KINDS = malformed.all_kinds()


def handled(place: Path, *asked: object) -> list[dict]:
    """What became of each checkpoint asked for."""
    command = [sys.executable, "-m", "made.malformed_child", str(place), *map(str, asked)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(found: dict) -> list[str]:
    """What must not have happened, whatever the checkpoint was."""
    names = ("end", "broken", "read", "executed", "stderr")
    return [f"{name}: {found[name]}" for name in names if found.get(name)] + (
        [] if "error" in found else ["gave no answer"]
    )


def misjudged(found: dict, kinds: Sequence[malformed.Kind]) -> list[str]:
    """What is wrong with how a malformed checkpoint was refused."""
    text = found.get("text", "")
    if found.get("error") is None:
        return [] if all(kind.passes for kind in kinds) else ["was taken"]
    if found["error"] != "ArtefactError":
        return [f"raised {found['error']}: {text}"]
    said = any(re.search(kind.says, text, re.DOTALL) for kind in kinds)
    return ([] if said else [f"says something else: {text}"]) + (
        [] if is_clear(text) else [f"not clear lines: {text!r}"]
    )


def is_clear(text: str) -> bool:
    """Whether a text is one line, or a line a misfit and one that says what to do: a file's own line breaks make
    none."""
    *misfits, last = text.split("\n")
    ours = all(line.startswith(('expert "', '"')) for line in misfits)
    advised = not misfits or last.startswith("merge only checkpoints fine-tuned from one base")
    return ours and advised and text.replace("\n", "").isprintable() and len(text) <= 2000


def check(place: Path, numbers: Sequence[int]) -> None:
    found = handled(place, *numbers)
    assert len(found) == len(numbers)
    faults = {}
    for number, one in zip(numbers, found, strict=True):
        if fault := [*wrong(one), *misjudged(one, [KINDS[name] for name in one["what"]])]:
            faults[number, *one["what"]] = fault
    assert not faults


def test_a_sample_of_the_zoo_is_refused_in_clear_lines(tmp_path: Path) -> None:
    check(tmp_path, random.Random("sample").sample(range(malformed.CASES), malformed.SAMPLE))


@pytest.mark.slow
def test_every_case_of_the_zoo_is_refused_in_one_line(tmp_path: Path) -> None:
    check(tmp_path, range(malformed.CASES))


def test_no_sound_checkpoint_is_refused(tmp_path: Path) -> None:
    found = handled(tmp_path, "sound")
    assert len(found) >= 20
    assert {
        one["what"]: [*wrong(one), one.get("error"), one.get("text")] for one in found if wrong(one) or one["error"]
    } == {}


def test_what_must_never_happen_would_be_noticed(tmp_path: Path) -> None:
    found = {one["what"]: one for one in handled(tmp_path, "controls")}
    assert all(map(wrong, (one for name, one in found.items() if name != "it raises something else")))
    assert found["a file outside is opened"]["broken"] == [f"open {tmp_path / malformed.OUTSIDE / 'secret.txt'}"]
    assert found["a file outside is opened by a library"]["read"] == ["tokenizer.json"]
    assert "os.system" in found["a command is run"]["broken"][0]
    assert "pickle.find_class" in found["a pickle is opened"]["broken"][0]
    assert found["a template is compiled"]["broken"] == ["compile of a template"]
    assert found["code of the folder is run"]["broken"] == [f"exec {tmp_path}/model/evil.py"]
    assert found["it never ends"]["end"] == "too slow"
    assert found["it takes 3 GB"]["end"] == "too large"
    assert found["it crashes"]["end"] == "exit -11"
    assert found["it raises something else"]["error"] == "foreign IndexError"
    assert found["it talks"]["stderr"] == "Beware!\n"


def test_the_zoo_has_many_kinds_and_each_is_drawn_several_times() -> None:
    drawn = Counter(name for number in range(malformed.CASES) for name in malformed.draw(number, KINDS).kinds)
    assert len(KINDS) >= 35
    assert set(drawn) == set(KINDS)
    assert min(drawn.values()) >= 3
    assert len(wellformed.ALL) >= 20
