"""What `psomerge plan` says of models that are not here: all that is wrong with them, what they take, and that nothing
large was fetched to know it."""

import collections
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save

from doubles.hub_server import Hub, Virtual, passed_off, serving
from made.large_models import HIDDEN, PARAMETERS, VOCABULARY, WIDE, large_model, tokenizer
from made.models import toy_checkpoint
from places import ROOT
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.fit.misfits import misfits
from psomerge.flows.config.loading import load_config
from psomerge.tasks.search.run_identity import program
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.sources.origin import Access
from psomerge.tasks.sources.pinned import pin_addresses
from runs.command_line import Said, psomerge

pytestmark = pytest.mark.heavy

Usage = collections.namedtuple("Usage", "total used free")
TERABYTES = 4 * 10**12
NORM = "model.norm.weight"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub, which the client takes for the real one, and a disk of some terabytes."""
    with serving() as server:
        passed_off(server, monkeypatch, tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(TERABYTES, 0, TERABYTES))
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def written(folder: Path, experts: dict[str, str], *, base: str = "hf://org/base", **changes: Any) -> Path:
    """A config over these models."""
    content = {"name": "large", "base": base, "experts": experts, "suite": "bayling2", "register": {"model": "large"}}
    path = folder / "large.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def of_hub(*names: str) -> dict[str, str]:
    return {name: f"hf://org/{name}" for name in names}


def planned(config: Path, home: Path) -> dict[str, Any]:
    said = psomerge("plan", config, "--json", home=home)
    assert said.code == 0, said.err
    return steady(json.loads(said.out))


def steady(plan: dict[str, Any]) -> dict[str, Any]:
    """The plan without what differs from call to call: free space, and the machine's speed."""
    return plan | {
        "disk": {name: value for name, value in plan["disk"].items() if name != "free_bytes"},
    }


def refused(config: Path, home: Path, code: int) -> str:
    """What a plan says that is refused; nothing of it binds a later one."""
    said: Said = psomerge("plan", config, home=home)
    assert said.code == code, (said.code, said.err)
    assert not list(home.rglob("pinned"))
    return said.text


def only_ranges_of_weights(served: Hub) -> bool:
    """Whether of no weights file more was asked for than a range, and every pickle left alone."""
    asked = [request for request in served.requests if "/resolve/" in request.path]
    weights = [request for request in asked if request.path.endswith(".safetensors")]
    return all(request.range for request in weights) and not [
        request for request in asked if request.path.endswith((".pth", ".bin"))
    ]


def small_model(value: float = 0.0, **tensors: torch.Tensor) -> dict[str, Any]:
    """The files of a checkpoint of one real file."""
    content = {NORM: torch.full((4,), value), **tensors}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "tie_word_embeddings": True,
    }
    cutting = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": json.dumps(cutting).encode(),
        "model.safetensors": save(content, metadata={"format": "pt"}),
    }


MACHINE = """
import collections, shutil
usage = collections.namedtuple("Usage", "total used free")(4 * 10**12, 0, 4 * 10**12)
shutil.disk_usage = lambda path: usage
from psomerge.flows.cli import main
main()
"""


def test_a_base_of_70_b_and_eight_experts_are_planned_in_seconds_and_megabytes(
    served: Hub, home: Path, tmp_path: Path, record_property: Any
) -> None:
    experts = [f"expert{number}" for number in range(1, 9)]
    for name in ("base", *experts):
        served.push(f"org/{name}", large_model() | {"README.md": name.encode()})
    config = written(tmp_path, of_hub(*experts))
    environment = os.environ | {
        "PSOMERGE_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }

    def run() -> tuple[dict[str, Any], float]:
        start = monotonic()
        done = subprocess.run(
            [sys.executable, "-c", MACHINE, "plan", str(config), "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return steady(json.loads(done.stdout)), monotonic() - start

    plan, seconds = run()
    requests, received = len(served.requests), sum(served.sent)
    record_property("seconds", seconds)
    print(f"\ncold: {seconds:.2f} s, {requests} requests, {received / 1e6:.1f} MB")
    files = [file for file in large_model() if file.endswith(".safetensors")]
    assert len(files) == 30
    assert only_ranges_of_weights(served)
    assert received < len(tokenizer()) + 3e6  # one tokenizer, and of each model some configs, an index and headers
    assert requests <= 9 * (1 + 1 + len(files) + 1 + 2 * 5)
    assert max(path.stat().st_size for path in home.rglob("*") if path.is_file()) == len(tokenizer())
    weights = sum(file.size for file in large_model().values() if isinstance(file, Virtual))
    assert weights > 2 * PARAMETERS
    assert plan["disk"]["download_bytes"] == 9 * weights
    assert {one["download_files"] for one in plan["models"].values()} == {30}
    assert plan["disk"]["written_bytes"] == 3 * 2 * PARAMETERS
    assert plan["memory"]["mapped_bytes"] == 9 * 2 * PARAMETERS
    again, warm = run()
    print(f"warm: {warm:.2f} s, {len(served.requests) - requests} requests")
    assert again == plan
    assert len(served.requests) == requests + 9  # what each branch is
    assert seconds < 25  # 3 to 5 s on two idle cores


def test_everything_that_is_wrong_with_all_experts_is_told_at_once_and_binds_nobody(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    served.push("org/base", large_model())
    served.push("org/sound", large_model())
    served.push(
        "org/narrow",
        large_model(change=lambda every: every | {"model.layers.7.mlp.up_proj.weight": (WIDE + 8, HIDDEN)}),
    )
    served.push("org/mistral", large_model(config={"architectures": ["MistralForCausalLM"], "model_type": "mistral"}))
    served.push("org/tongues", large_model(tokens=tokenizer("another-token")))
    config = written(tmp_path, of_hub("sound", "narrow", "mistral", "tongues"))
    line = refused(config, home, 3)
    assert (
        f"expert \"narrow\" has tensor 'model.layers.7.mlp.up_proj.weight' of shape [{WIDE + 8}, {HIDDEN}], the base "
        f"[{WIDE}, {HIDDEN}]" in line
    )
    assert "expert \"mistral\" has architectures ['MistralForCausalLM'], the base ['LlamaForCausalLM']" in line
    assert 'expert "tongues" gives tokens other ids than the base' in line
    assert "another-token" in line
    assert "sound" not in line
    assert only_ranges_of_weights(served)
    for name in ("narrow", "mistral", "tongues"):
        served.push(f"org/{name}", large_model())
    assert planned(config, home)["models"]["narrow"]["state"] == "to fetch"


def test_what_keeps_single_models_from_being_looked_at_is_told_beside_the_misfits_of_others(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    served.push("org/base", small_model())
    served.push("org/wide", small_model() | {"model.safetensors": save({NORM: torch.zeros(5)})})
    gated = served.push("org/gated", small_model())
    served.repositories["org/gated"].gated = True
    served.push("org/cut", small_model() | {"model.safetensors": save({NORM: torch.zeros(4)})[:-1]})
    line = refused(written(tmp_path, of_hub("wide", "gated", "cut", "missing")), home, 3)
    for words in (
        "'model.norm.weight' of shape [5], the base [4]",
        f"hf://org/gated@{gated} is gated: accept its terms",
        "hf://org/missing: no such model",
        "truncated",
    ):
        assert words in line
    assert "hf://org/cut" in line


def test_no_network_is_told_once_with_all_models_that_it_keeps_away(
    served: Hub, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = refused(written(tmp_path, of_hub("one", "two")), home, 4)
    assert line.count("cannot be reached") == 1
    assert "the same for hf://org/one, hf://org/two" in line


def test_a_plan_tells_what_branches_are_now_and_of_an_unfinished_run_what_they_were(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    base, commit = served.push("org/base", small_model()), served.push("org/one", small_model(1.0))
    config = written(tmp_path, of_hub("one"))
    plan = planned(config, home)
    assert (plan["models"]["one"]["source"], plan["goes_on_since"], plan["moved"]) == (
        f"hf://org/one@{commit}",
        None,
        [],
    )
    moved = served.push("org/one", small_model(2.0))
    assert planned(config, home)["models"]["one"]["source"] == f"hf://org/one@{moved}"  # a plan binds nobody
    settings, access = load_config(str(config)), Access(home, lambda what, share: None)
    begun = pin_addresses(settings.addresses, access, settings.canonical(), program())
    assert begun.addresses == {"base": f"hf://org/base@{base}", "one": f"hf://org/one@{moved}"}
    assert planned(config, home)["moved"] == []
    third = served.push("org/one", small_model(3.0))
    plan = planned(config, home)
    assert (plan["models"]["one"]["source"], plan["goes_on_since"]) == (f"hf://org/one@{moved}", begun.since)
    (line,) = plan["moved"]
    assert line.startswith(f"hf://org/one is hf://org/one@{third}; the run that began on {begun.since} goes on with")
    assert f"goes on with hf://org/one@{moved} until it is finished; to begin anew" in line
    assert line.endswith(f"remove {begun.path}")
    begun.path.unlink()
    assert planned(config, home)["models"]["one"]["source"] == f"hf://org/one@{third}"


def test_of_models_that_are_here_only_what_their_branches_are_is_asked_and_what_is_partly_here_counts_less(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    half = large_model(shard=80 * 10**9)
    for name in ("base", "whole"):
        served.push(f"org/{name}", small_model())
    fetch("hf://org/base", home, lambda what, share: None)
    fetch("hf://org/whole", home, lambda what, share: None)
    asked = len(served.requests)
    plan = planned(written(tmp_path, of_hub("whole")), home)
    assert (plan["to_fetch"], plan["disk"]["download_bytes"], len(served.requests)) == ([], 0, asked + 2)
    commit = served.push("org/large", half)
    config = written(tmp_path, of_hub("large"), base="hf://org/large")
    first, second = [name for name in half if name.endswith(".safetensors")]
    assert planned(config, home)["models"]["large"]["download_bytes"] == len(half[first]) + len(half[second])
    with (home / "experts" / "hub" / "org" / "large" / commit / first).open("wb") as file:
        file.truncate(len(half[first]))  # of an interrupted download
    plan = planned(config, home)
    assert (plan["models"]["large"]["download_bytes"], plan["models"]["large"]["download_files"]) == (
        len(half[second]),
        1,
    )
    assert plan["disk"]["download_bytes"] == len(half[second])  # one file, though two models of the plan are in it


def test_a_disk_that_will_not_do_is_told_before_anything_large_is_fetched(
    served: Hub, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.push("org/base", large_model())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(5 * 10**11, 0, 5 * 10**11))
    config = written(tmp_path, {"one": "hf://org/base"})
    # 141 GB to fetch, and three copies of as much.
    line = refused(config, home, 6)
    assert (
        "needs 525.7 GiB (131.4 GiB to fetch, 394.2 GiB for the merged model and its copies), 465.7 GiB are free"
        in line
    )
    assert only_ranges_of_weights(served)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(6 * 10**11, 0, 6 * 10**11))
    assert planned(config, home)["disk"]["needed_bytes"] == pytest.approx(4 * 2 * PARAMETERS, rel=1e-3)


def test_memory_that_will_not_do_is_a_warning_and_what_is_held_is_added_up(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    served.push("org/base", large_model())
    config = written(tmp_path, {"one": "hf://org/base"}, engine={"kind": "transformers", "kv_cache_gib": 1e6})
    plan = planned(config, home)
    largest = VOCABULARY * HIDDEN
    assert plan["memory"]["held_bytes"] == 4 * PARAMETERS + 10**6 * 2**30 + 2 * 4 * largest
    assert plan["warnings"][0].startswith("memory will not do: the engine needs ")
    assert "warning: memory will not do" in psomerge("plan", config, home=home).out
    assert planned(config, home)["memory"]["dtype"] == "float32"


def test_a_run_is_refused_by_the_plan_before_it_fetches_or_starts_anything(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    served.push("org/base", small_model())
    served.push("org/wide", small_model() | {"model.safetensors": save({NORM: torch.zeros(5)})})
    said = psomerge("run", written(tmp_path, of_hub("wide")), home=home)
    assert said.code == 3
    assert "of shape [5], the base [4]" in said.text
    assert {path.name for path in home.iterdir()} == {"experts"}  # neither runs nor Prefect
    assert not list(home.rglob("*.safetensors"))


def test_a_header_longer_than_expected_is_read_whole_and_an_absurd_one_not_at_all(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    many = {f"model.layers.{number}.norm.weight": torch.zeros(1) for number in range(2000)}
    served.push("org/base", small_model(**many))
    config = written(tmp_path, {"one": "hf://org/base"})
    assert planned(config, home)["model_bytes"] == 4 * (4 + 2000)
    ranges = [request.range for request in served.requests if request.range]
    length = int.from_bytes(small_model(**many)["model.safetensors"][:8], "little")
    assert ranges == ["bytes=0-65535", f"bytes=0-{length + 7}"]
    served.push("org/absurd", small_model() | {"model.safetensors": Virtual((2**40).to_bytes(8, "little"), 2**41)})
    line = refused(written(tmp_path, of_hub("absurd")), tmp_path / "other", 3)
    assert f"header of {2**40} bytes, expected at most" in line
    assert sum(served.sent) < 2**20


def test_a_server_that_knows_no_ranges_is_not_listened_to_for_gigabytes(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    weights = save({NORM: torch.zeros(2**24)})  # 64 MiB
    served.push("org/base", small_model() | {"model.safetensors": weights})
    served.fault = lambda request: "whole" if request.range else None
    assert planned(written(tmp_path, {"one": "hf://org/base"}), home)["model_bytes"] == 2**26
    assert sum(served.sent) < 2**25


@pytest.mark.parametrize("fault", ["short", "cut", "reset", 503])
def test_headers_that_come_short_are_asked_for_again_and_then_told(
    served: Hub, home: Path, tmp_path: Path, fault: str | int
) -> None:
    served.push("org/base", small_model())
    config = written(tmp_path, {"one": "hf://org/base"})
    served.times(fault, only=".safetensors", count=99)
    line = refused(config, home, 4)
    assert "hf://org/base" in line
    served.times(fault, only=".safetensors", count=1)
    assert planned(config, home)["to_fetch"] == ["base", "one"]


def test_two_checkpoints_without_values_are_not_refused_for_integers_that_nobody_has_read(
    served: Hub, home: Path, tmp_path: Path
) -> None:
    served.push("org/base", small_model(positions=torch.arange(3)))
    served.push("org/other", small_model(positions=torch.arange(3) + 1))
    served.push("org/short", small_model(positions=torch.arange(2)))
    assert planned(written(tmp_path, of_hub("other")), home)["to_fetch"] == ["base", "other"]
    assert "'positions' of shape [2], the base [3]" in refused(
        written(tmp_path, of_hub("other", "short")), tmp_path / "new", 3
    )


def test_a_local_base_and_experts_of_the_hub_share_one_tokenizer(served: Hub, home: Path, tmp_path: Path) -> None:
    base = toy_checkpoint(tmp_path / "base", {NORM: torch.zeros(4)})
    words = json.dumps({"version": "1.0", "model": {"vocab": {"a": 0, "b": 1}}}).encode()
    (base / "tokenizer.json").write_bytes(words)
    served.push("org/same", small_model() | {"tokenizer.json": words})
    plan = planned(written(tmp_path, of_hub("same"), base=str(base)), home)
    assert [plan["models"][name]["state"] for name in ("base", "same")] == ["here", "to fetch"]
    assert not [
        request for request in served.requests if request.path.endswith("tokenizer.json") and request.method == "GET"
    ]
    assert [path.read_bytes() for path in home.rglob("tokenizer.json")] == [words]


def test_an_embedded_model_is_known_before_it_is_trained(home: Path, tmp_path: Path) -> None:
    from psomerge.tasks.building.embedded.shapes import untrained
    from psomerge.tasks.building.embedded.training import new_model

    model = new_model(0).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    trained, expected = open_checkpoint(tmp_path / "model"), untrained(tmp_path, "base")
    assert {name: (info.dtype, info.shape) for name, info in trained.tensors.items()} == {
        n: (i.dtype, i.shape) for n, i in expected.tensors.items()
    }
    assert misfits(trained, expected) == misfits(expected, trained) == []
    experts = {"one": "embedded://so@0", "far": "embedded://eu@0"}
    plan = planned(written(tmp_path, experts, base="embedded://base@0"), home)
    assert {one["state"] for one in plan["models"].values()} == {"to train"}
    assert plan["model_bytes"] == sum(info.end - info.begin for info in trained.tensors.values())
    assert not home.exists()
