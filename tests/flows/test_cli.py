"""What the command line refuses: one line that helps, the right exit code, nothing left behind. And what it answers
quickly."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from made.models import tiny_llama
from places import ROOT
from runs.command_line import Said, psomerge
from runs.small_run import Small, perturbed, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

COMMANDS = ("quickstart", "run", "plan", "merge", "check", "materialize", "ui", "report", "doctor")
Breaker = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small_run(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def small(sound: Small, tmp_path: Path) -> Small:
    """A copy whose checkpoints and config a test may break."""
    for entry in sound.folder.iterdir():
        if entry.is_dir() and entry != sound.home:
            shutil.copytree(entry, tmp_path / entry.name)
    shutil.copy(sound.folder / "suite.yaml", tmp_path)
    config = yaml.safe_load(sound.config.read_text())
    config |= {"base": str(tmp_path / "base"), "experts": {name: str(tmp_path / name) for name in config["experts"]}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Small(tmp_path)


def refused(small: Small, command: str, *more: object) -> Said:
    """`run` or `plan` of the config, which must leave no home."""
    said = psomerge(command, small.config, *more, home=small.home)
    assert not small.home.exists(), "a refused config must not touch the home"
    return said


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def save(folder: Path, content: dict[str, torch.Tensor]) -> None:
    save_file(content, str(folder / "model.safetensors"), metadata={"format": "pt"})


def with_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Breaker:
    return lambda folder: save(folder, change(tensors(folder)))


def truncate(folder: Path) -> None:
    with (folder / "model.safetensors").open("rb+") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 10)


def other_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"})
    )


def index_outside(folder: Path) -> None:
    names = list(tensors(folder))
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(names, "../outside.safetensors")})
    )


def fifo(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def symlink(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


def wrong_base(folder: Path) -> None:
    shutil.rmtree(folder)
    tiny_llama(folder, 5, layers=1)


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "code.Model"}}))


NORM = "model.norm.weight"
MISFITS: dict[str, tuple[Breaker, str]] = {
    "truncated": (truncate, "truncated"),
    "other architecture": (other_architecture, "MistralForCausalLM"),
    "missing tensor": (
        with_tensors(lambda all_: {name: tensor for name, tensor in all_.items() if name != NORM}),
        f"has no tensor '{NORM}'",
    ),
    "extra tensor": (
        with_tensors(lambda all_: all_ | {"model.more": torch.zeros(2, dtype=torch.bfloat16)}),
        "'model.more' that the base has not",
    ),
    "other shape": (
        with_tensors(lambda all_: all_ | {NORM: torch.ones(65, dtype=torch.bfloat16)}),
        f"'{NORM}' of shape [65], the base [64]",
    ),
    "wrong dtype": (with_tensors(lambda all_: all_ | {NORM: all_[NORM].half()}), f"'{NORM}' in float16"),
    "index outside": (index_outside, "../outside.safetensors"),
    "FIFO": (fifo, "FIFO"),
    "symlink": (symlink, "symbolic link"),
    "pickle only": (pickle_only, "never opened"),
    "remote code": (remote_code, "remote code"),
    "wrong base": (wrong_base, "the base"),
}


@pytest.mark.parametrize("kind", MISFITS)
@pytest.mark.parametrize("command", ["run", "plan", "check", "merge"])
def test_an_expert_that_does_not_fit_is_refused_before_anything_is_made(small: Small, command: str, kind: str) -> None:
    break_, words = MISFITS[kind]
    expert, out = small.folder / "expert2", small.folder / "out"
    break_(expert)
    base, first = small.folder / "base", small.folder / "expert1"
    arguments = {
        "run": (small.config,),
        "plan": (small.config,),
        "check": (expert, "--base", base),
        "merge": ("linear", "--base", base, "--expert", first, "--expert", expert, "--out", out),
    }[command]
    said = psomerge(command, *arguments, home=small.home)
    assert said.code == 3, said.err
    assert words in said.text
    assert "expert2" in said.text
    assert not out.exists()
    assert not small.home.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("command", ["check", "merge"])
def test_values_that_are_no_numbers_are_refused(small: Small, command: str, value: float) -> None:
    expert, out = small.folder / "expert2", small.folder / "out"
    with_tensors(lambda all_: all_ | {NORM: all_[NORM].index_fill(0, torch.tensor([7]), value)})(expert)
    arguments = (
        (expert,)
        if command == "check"
        else ("linear", "--base", small.folder / "base", "--expert", expert, "--out", out)
    )
    said = psomerge(command, *arguments, home=small.home)
    assert said.code == 3
    assert NORM in said.line
    assert "NaN or infinite" in said.line
    assert not out.exists()
    assert [path.name for path in small.folder.iterdir() if path.name.startswith(".")] == []


def test_a_run_refuses_values_that_are_no_numbers_without_a_run_folder(small: Small) -> None:
    with_tensors(lambda all_: all_ | {NORM: all_[NORM].index_fill(0, torch.tensor([7]), float("nan"))})(
        small.folder / "expert2"
    )
    done = small.psomerge("run", str(small.config), "--json")
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = [one for one in done.stderr.splitlines() if one]
    assert line.startswith('psomerge: "expert2"')
    assert "1 values that are NaN or infinite" in line
    assert small.runs == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"swram": {}}, "unknown key swram; did you mean swarm?"),
        ({"swarm": {"step": 3}}, "unknown key swarm.step; did you mean steps?"),
        ({"registre": {}}, "unknown key registre; did you mean register?"),
        ({"register": {"model": "m", "modle": "m"}}, "unknown key register.modle; did you mean model?"),
        ({"swarm": {"steps": 0}}, "swarm.steps"),
        ({"swarm": {"drop_rate": 1.0}}, "swarm.drop_rate"),
        ({"swarm": {"inertia": float("nan")}}, "swarm.inertia"),
        ({"engine": {"kind": "vlm"}}, "engine.kind"),
        ({"experts": {}}, "experts"),
        ({"tokenizer_from": "expert3"}, "did you mean expert"),
        ({"suite": "quickstrat"}, "unknown suite 'quickstrat'; did you mean quickstart?"),
        ({"suite": "missing.yaml"}, "missing.yaml: cannot read the file"),
        ({"base": "gs://bucket/model"}, "expected a local folder"),
        ({"base": "hf://model"}, "expected hf://ORG/NAME"),
        ({"base": "embedded://bse@0"}, "there is no embedded model 'bse'"),
        ({"register": {"model": "a/b"}}, "register.model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_config_that_cannot_be_is_refused_by_name(small: Small, command: str, changes: dict, words: str) -> None:
    small.change(**changes)
    said = refused(small, command)
    assert said.code == 2
    assert words in said.line


def test_all_that_a_config_cannot_be_is_told_at_once(small: Small) -> None:
    small.change(swram={}, swarm={"step": 3, "drop_rate": 1.0}, engine={"kind": "vlm"})
    done = psomerge("plan", small.config, home=small.home)
    lines = done.err.splitlines()
    assert done.code == 2
    for words in ("unknown key swram; did", "unknown key swarm.step; did", "swarm.drop_rate: ", "engine.kind: "):
        assert len([line for line in lines if words in line]) == 1, words


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("swarm.steps", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("swarm.stps=3", "unknown key swarm.stps; did you mean steps?"),
        ("swarm.steps=many", "swarm.steps"),
        ("swarm.steps.more=1", "no further keys"),
        ("swarm=[1", "not YAML"),
        ("engine.kind=NO", "engine.kind"),
    ],
)
def test_an_override_that_cannot_be_is_refused(small: Small, override: str, words: str) -> None:
    said = refused(small, "run", "--set", override)
    assert said.code == 2
    assert words in said.line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quickstat", "did you mean quickstart?"),
        ("missing.yaml", "cannot read the file"),
        ("some/folder", "unknown config"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_config_that_is_not_there_is_told(tmp_path: Path, command: str, name: str, words: str) -> None:
    said = psomerge(command, name, home=tmp_path / "home")
    assert said.code == 2
    assert words in said.line
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "arguments",
    [["rnu"], ["run"], ["run", "quickstart", "--jsn"], ["merge", "linear"], ["ui", "--prefect-port", "many"]],
)
def test_a_misspelt_command_line_is_told_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    said = psomerge(*arguments, home=tmp_path / "home")
    assert said.code == 2
    assert said.line


def test_the_time_of_a_suite_that_never_ran_is_not_made_up(small: Small) -> None:
    assert "time: known after a first run of this suite" in psomerge("plan", small.config, home=small.home).out


def test_an_override_reaches_the_plan(small: Small) -> None:
    before, after = (
        json.loads(psomerge("plan", small.config, "--json", *more, home=small.home).out)
        for more in ((), ("--set", "swarm.steps=7"))
    )
    # Two experts: 5 particles a step; 2 to rank again, 1 average, and 5 rows on the test split.
    assert (before["steps"], before["judgements"]) == (2, 2 * 5 + 2 + 1 + 5)
    assert (after["steps"], after["judgements"]) == (7, 7 * 5 + 2 + 1 + 5)
    assert before["model_bytes"] == sum(tensor.numel() * 2 for tensor in tensors(small.folder / "base").values())
    assert not small.home.exists()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_merge_without_room_leaves_nothing(small: Small, full: Path) -> None:
    out = full / "out"
    said = psomerge(
        "merge",
        "linear",
        "--base",
        small.folder / "base",
        "--expert",
        small.folder / "expert1",
        "--out",
        out,
        home=small.home,
    )
    assert said.code == 6
    assert str(full) in said.line
    assert list(full.iterdir()) == []


def test_a_run_on_a_full_disk_says_so(small: Small, full: Path) -> None:
    begin = monotonic()
    done = small.psomerge("run", str(small.config), "--json", PSOMERGE_HOME=str(full / "home"))
    (line,) = [one for one in done.stderr.splitlines() if one]
    assert (done.returncode, done.stdout) == (6, ""), done.stderr[-3000:]
    assert str(full) in line
    assert (
        monotonic() - begin < 60
    )  # Prefect's server, which cannot come up, was waited for in silence for five minutes


def test_folders_of_another_user_are_refused(small: Small) -> None:
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root may act as another user")
    theirs = small.folder / "theirs"
    theirs.mkdir(mode=0o755)
    for path in small.folder.rglob("*.safetensors"):
        path.chmod(0o644)
    for path in (small.folder, *small.folder.parents):
        if path.owner() == "root" and not path.stat().st_mode & 0o005 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    script = "import sys; from psomerge.flows.cli import main; sys.argv = ['psomerge', *sys.argv[1:]]; main()"
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", script]
    environment = small.environment | {"PSOMERGE_HOME": str(theirs / "home"), "HOME": "/nonexistent"}
    if subprocess.run([*command, "--help"], env=environment, cwd="/", capture_output=True, timeout=60).returncode:
        pytest.skip("another user cannot reach this interpreter or checkout")
    merge = [
        "merge",
        "linear",
        "--base",
        str(small.folder / "base"),
        "--expert",
        str(small.folder / "expert1"),
        "--out",
        str(theirs / "out"),
    ]
    for arguments in (merge, ["run", str(small.config)]):
        done = subprocess.run(
            [*command, *arguments], env=environment, cwd="/", capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 6, done.stderr
        (line,) = done.stderr.splitlines()
        assert "theirs" in line
    assert list(theirs.iterdir()) == []


def test_help_lists_every_command_within_a_second(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    seconds = []
    for _ in range(3):  # the first one may compile, others may meet a busy machine
        begin = monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "psomerge", "--help"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        seconds.append(monotonic() - begin)
    assert (done.returncode, done.stderr) == (0, "")
    assert [command for command in COMMANDS if f" {command} " not in done.stdout] == []
    assert min(seconds) < 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_the_help_is_all_that_is_said(tmp_path: Path) -> None:
    said = psomerge(home=tmp_path / "home")
    assert (said.code, said.err) == (2, "")
    assert "quickstart" in said.out


def test_every_command_has_help_of_its_own(tmp_path: Path) -> None:
    for command in COMMANDS:
        said = psomerge(command, "--help", home=tmp_path / "home")
        assert (said.code, said.err) == (0, ""), command
        assert "Usage" in said.out
    assert not (tmp_path / "home").exists()


def test_debug_shows_the_traceback(small: Small) -> None:
    small.change(swram={})
    done = subprocess.run(
        [sys.executable, "-m", "psomerge", "--debug", "plan", str(small.config)],
        env=small.environment,
        cwd=small.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "unknown key swram" in done.stderr


def test_a_report_of_no_run_or_of_several_is_refused(small: Small) -> None:
    said = psomerge("report", "abc", home=small.home)
    assert said.code == 2
    assert "expected one run" in said.line
    for name in ("abc1", "abc2"):
        (small.home / "runs" / name).mkdir(parents=True)
        (small.home / "runs" / name / "run.json").write_text("{}")
    assert "found 2" in psomerge("report", "abc", home=small.home).line
    unfinished = psomerge("report", "abc1", home=small.home)
    assert unfinished.code == 8
    assert "summary.json" in unfinished.line


def test_doctor_examines_this_machine(small: Small) -> None:
    said = psomerge("doctor", "--json", home=small.home)
    found = {one["what"]: one for one in json.loads(said.out)}
    assert {"Python", "torch", "vLLM", "transformers", "memory available", "disk free", "home folder"} <= set(found)
    assert found["Python"]["fit"]
    assert said.code == (0 if all(one["fit"] for one in found.values()) else 1)


def test_doctor_says_what_is_wrong_with_the_home(small: Small) -> None:
    small.home.write_text("a file")
    said = psomerge("doctor", home=small.home)
    assert said.code == 1
    assert any(line.startswith("NOT  home folder") and str(small.home) in line for line in said.out.splitlines()), (
        said.out
    )


def test_a_perturbed_copy_is_sound_and_fits(small: Small) -> None:
    # Else the refusals above might be of everything.
    perturbed(small.folder / "base", small.folder / "more", 9)
    said = psomerge(
        "check",
        small.folder / "more",
        small.folder / "expert1",
        "--base",
        small.folder / "base",
        "--json",
        home=small.home,
    )
    assert said.code == 0
    assert list(json.loads(said.out)) == [str(small.folder / "more"), str(small.folder / "expert1")]


def test_an_error_over_an_interrupt_counts_as_the_interrupt(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_between_two_tasks(**settings: object) -> None:  # what Prefect does then
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise ValueError("Task run is not set")  # noqa: B904

    monkeypatch.setattr("psomerge.flows.cli.app", interrupted_between_two_tasks)
    said = psomerge("run", small.config, home=small.home)
    assert (said.code, said.line) == (130, "interrupted; the same command goes on from here")
