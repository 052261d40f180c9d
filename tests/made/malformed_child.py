"""Takes each case of the zoo through what is done to an expert, in a child forked from this process, which is warm;
prints one line of JSON a case.

python -m made.malformed_child FOLDER NUMBER ...       cases of the zoo, or
python -m made.malformed_child FOLDER sound            the sound ones
"""

import json
import os
import pickle
import resource
import runpy
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1"}

import torch
from jinja2 import Template
from tokenizers import Tokenizer

from made import malformed, malformed_adapters, malformed_folders, wellformed
from places import ROOT
from psomerge.checkpoint.writer import companion_files
from psomerge.errors import PsomergeError
from psomerge.evals.harness.encoding import Encoder
from psomerge.files.hub_links import SNAPSHOTS
from psomerge.tasks.experts.check import check
from psomerge.vocabulary.tokenizer import has_chat_template, tokenizers_differ

KINDS = malformed.all_kinds()
SECONDS, MEMORY = 10.0, 2 * 2**30
BUSY = 3
"""Times as long as it computes that something may take beside other work; what waits for ever is seen by this, too."""
TEXTS = (
    "Which town is it? a" * 3,
    "a" * 60,
    "a" * 60 + "!",
    "x" * 60,
    "a1 " * 40,
    " " * 200 + "a",
    ",".join("word" * 9),
)
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi, aaaa"}]
FORBIDDEN = (
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "socket.sendto",
    "os.remove",
    "os.rename",
    "os.link",
    "os.symlink",
    "os.chmod",
    "shutil.rmtree",
    "webbrowser.open",
)
"""Events that no sound way of reading a checkpoint raises."""
OURS = {"psomerge.evals.harness.template_process", "psomerge.screening.pattern_process"}
"""What is started beside this process: each ends whatever takes too long in it."""
INSTALLED = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())})
"""Where Python's own files are: whatever was not imported before the fork may be opened there."""


def guard(folder: Path, base: Path) -> list[str]:
    """Installs the audit hook; returns the list that it writes what happened against the rules into."""
    broken: list[str] = []
    inside = (
        os.path.realpath(folder).partition(f"/{SNAPSHOTS}/")[0],  # of a snapshot, all of its repository's folder
        os.path.realpath(base),
        *INSTALLED,
        str(ROOT),
    )

    def watch(event: str, arguments: tuple) -> None:
        if event in FORBIDDEN and not (event == "subprocess.Popen" and OURS & {*map(str, arguments[1])}):
            broken.append(f"{event} {arguments!r:.200}")
            raise RuntimeError(f"forbidden: {event}")
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if (
                not path.startswith(tuple(f"{place}/" for place in inside))
                and path not in (*inside, "/dev/null")
                and not path.startswith("/proc/")
            ):
                broken.append(f"open {path}")
                raise RuntimeError(f"forbidden: open {path}")
        if event == "import" and arguments[1] and str(arguments[1]).startswith(str(folder)):
            broken.append(f"import {arguments[1]}")
        if event == "compile" and arguments[1] == "<template>":  # a template is rendered in a process of its own
            broken.append("compile of a template")
        if event == "exec" and arguments[0].co_filename.startswith(str(folder)):
            broken.append(f"exec {arguments[0].co_filename}")

    sys.addaudithook(watch)
    return broken


def take(folder: Path, base: Path) -> None:
    """Does with an expert what a run does before it judges, in that order."""
    basis = check({"base": base, "expert": folder}, "expert").basis
    check({"base": base, "expert": folder}, "base")  # the other way about, its tokens go into the base's tokenizer
    expert = basis.experts[0]
    tokenizers_differ(basis.base, expert)
    companion_files(basis.base, expert, "base")
    encode(folder, has_chat_template(expert))


def encode(folder: Path, talks: bool) -> None:
    """Opens the tokenizer as an evaluation does, and renders the chat template."""
    from lm_eval.api.instance import Instance
    from transformers import GenerationConfig

    if not any(
        (folder / name).exists()
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    ):
        return
    encoder = Encoder(folder)
    encoder.loglikelihood([Instance("loglikelihood", {}, (text, " b"), 0) for text in TEXTS])
    if talks:
        encoder.chat_template(TURNS)
    if (folder / "generation_config.json").is_file():
        listed = GenerationConfig.from_pretrained(folder).eos_token_id
        set(listed if isinstance(listed, list) else [listed])


CONTROLS: dict[str, Callable[[Path], object]] = {
    "a file outside is opened": lambda outside: (outside / "secret.txt").read_text(),
    "a file outside is opened by a library": lambda outside: Tokenizer.from_file(str(outside / "tokenizer.json")),
    "a command is run": lambda outside: os.system("true"),
    "a pickle is opened": lambda outside: pickle.loads(
        pickle.dumps(malformed_folders.Payload(outside / malformed.EXECUTED))
    ),
    "a template is compiled": lambda outside: Template("{{ 1 }}").render(),
    "code of the folder is run": lambda outside: runpy.run_path(str(outside.parent / "model" / "evil.py")),
    "it never ends": lambda outside: time.sleep(60),
    "it takes 3 GB": lambda outside: (bytearray(os.urandom(1)) * (3 * 2**30), time.sleep(60)),
    "it crashes": lambda outside: os.kill(os.getpid(), signal.SIGSEGV),
    "it raises something else": lambda outside: [][0],
    "it talks": lambda outside: print("Beware!", file=sys.stderr),
}
"""By what must be noticed: something that does it, given the folder that nothing may read."""


def child(work: Callable[[], object], places: tuple[Path, Path], result: Path, errors: Path) -> None:
    """Does the work in the fork, and never returns; `places` are the folders that it may read."""
    os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY), 2)
    report = os.open(result, os.O_CREAT | os.O_WRONLY)
    broken = guard(*places)
    found: dict[str, object] = {"error": None, "text": ""}
    try:
        work()
    except PsomergeError as error:
        found = {"error": type(error).__name__, "text": str(error)}
    except BaseException as error:
        found = {"error": f"foreign {type(error).__name__}", "text": str(error)[:500]}
    os.write(report, json.dumps(found | {"broken": broken}).encode())
    os._exit(0)


def watched(pid: int) -> tuple[str, float, int]:
    """Waits for a child: how it ended, seconds of computing (its own children's included), and its peak of resident
    memory in bytes."""
    start = time.monotonic()
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return ("" if code == 0 else f"exit {code}"), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        with open(f"/proc/{pid}/stat") as file:
            seconds = sum(map(int, file.read().rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")
        with open(f"/proc/{pid}/status") as file:
            peak = next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM")), 0)
        if max(seconds, (time.monotonic() - start) / BUSY) > SECONDS or peak > MEMORY:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return ("too large" if peak > MEMORY else "too slow"), seconds, peak
        time.sleep(0.01)


def handle(work: Callable[[], object], places: tuple[Path, Path], place: Path) -> dict[str, object]:
    """What became of a piece of work."""
    outside, result, errors = place / malformed.OUTSIDE, place / "result", place / "stderr"
    for path in (result, errors, outside / malformed.EXECUTED):
        path.unlink(missing_ok=True)
    for path in outside.iterdir():
        os.utime(path, (0, path.stat().st_mtime))
    pid = os.fork()
    if pid == 0:
        child(work, places, result, errors)
    end, seconds, memory = watched(pid)
    executed = (outside / malformed.EXECUTED).exists()
    read = [path.name for path in outside.iterdir() if path.stat().st_atime > 1]
    found = json.loads(result.read_text() or "{}") if result.exists() else {}
    return {
        "end": end,
        "seconds": round(seconds, 2),
        "memory": memory,
        "read": read,
        "executed": executed,
        "stderr": errors.read_text(errors="replace")[:2000],
    } | found


def main(place: Path, asked: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)  # a fork has no other thread
    sys.dont_write_bytecode = True  # of a library's module that only one case imports
    model, base = malformed.sound(place / "model", 1), malformed.sound(place / "base")
    adapter, outside, folder = (
        malformed_adapters.sound_adapter(place / "adapter"),
        malformed.secrets(place),
        place / "expert",
    )
    for warm in (model, adapter):
        take(warm, base)  # all that is imported late is imported now
    if asked == ["controls"]:
        (model / "evil.py").write_text("1")
    for name in CONTROLS if asked == ["controls"] else ():
        report(name, handle(partial(CONTROLS[name], outside), (model, base), place))
    for name, build in wellformed.ALL.items() if asked == ["sound"] else ():
        shutil.copytree(adapter if name in wellformed.ADAPTERS else model, folder)
        build(folder)
        report(
            name, handle(partial(take, folder, folder if name in wellformed.OWN_BASE else base), (folder, base), place)
        )
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    for number in map(int, asked if asked[0].isdecimal() else ()):
        case = malformed.draw(number, KINDS)
        malformed.spoil(case, KINDS, adapter if KINDS[case.kinds[0]].adapter else model, folder)
        report(case.kinds, handle(partial(take, folder, base), (folder, base), place))
        shutil.rmtree(folder)


def report(what: object, found: dict[str, object]) -> None:
    print(json.dumps({"what": what} | found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
