"""Models of the hub: exactly the bytes of one commit, proven, asked for once. The stock client talks to a hub on
loopback."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from doubles.hub_server import Hub, passed_off, serving
from made.models import toy_checkpoint
from places import ROOT
from psomerge.errors import ArtefactError, ConfigError, PsomergeError, ServiceError, StateError
from psomerge.files.durable import seal, to_bytes, write_atomic
from psomerge.files.untrusted import listing
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.fetch import fetch as fetch_any
from psomerge.tasks.sources.fetch import pin_fetched
from psomerge.tasks.sources.origin import Access, Fetched
from runs.command_line import psomerge

pytestmark = pytest.mark.heavy

NAME = "org/tiny.model-1"
ADDRESS = f"hf://{NAME}"
WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b'{"version": "1.0"}',
    "model.safetensors": WEIGHTS,
    "README.md": b"# tiny",
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit",
    "onnx/model.safetensors": b"another format",
}
NEEDED = {"config.json", "tokenizer.json", "model.safetensors"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model, which the client takes for the real one; it waits for nothing between two tries."""
    with serving() as server:
        server.push(NAME, FILES)
        passed_off(server, monkeypatch, tmp_path)
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def fetch(home: Path, address: str = ADDRESS) -> Fetched:
    return fetch_any(address, home, lambda what, share: None)


def refused(home: Path, address: str = ADDRESS) -> PsomergeError:
    """What a fetch fails with: one line that names the address."""
    with pytest.raises(PsomergeError) as caught:
        fetch(home, address)
    assert "\n" not in str(caught.value)
    assert address in str(caught.value)
    return caught.value


def asked(server: Hub) -> list[str]:
    return [f"{request.method} {request.path.rpartition('/')[2]}" for request in server.requests]


def test_further_chat_templates_and_a_tokenizer_in_other_files_are_fetched_and_pinned(served: Hub, home: Path) -> None:
    more = {"additional_chat_templates/rag.jinja": b"{{ messages }}", "spiece.model": b"\n\x00"}
    served.push(NAME, FILES | more | {"additional_chat_templates/deep/a.jinja": b"x"})
    found = fetch(home)
    assert set(found.files) == NEEDED | more.keys()
    assert {name: (found.folder / name).read_bytes() for name in more} == more


def test_what_was_fetched_when_fewer_names_belonged_to_a_checkpoint_is_completed(served: Hub, home: Path) -> None:
    served.push(NAME, FILES | {"spiece.model": b"\n\x00"})
    found = fetch(home)
    # As an earlier psomerge left it: neither the file nor the names in its record.
    (found.folder / "spiece.model").unlink()
    record = found.folder.with_name(f"{found.folder.name}.json")
    content = json.loads(record.read_text())
    files = {name: one for name, one in content["files"].items() if name != "spiece.model"}
    write_atomic(record, to_bytes(seal({"files": files})))
    served.requests.clear()
    assert fetch(home, found.source).files == found.files
    assert (found.folder / "spiece.model").read_bytes() == b"\n\x00"
    assert [one for one in asked(served) if one.startswith("GET")].count("GET model.safetensors") == 0
    served.requests.clear()
    assert fetch(home, found.source).files == found.files
    assert served.requests == []


def test_only_the_files_of_a_checkpoint_are_fetched_and_pinned_to_the_commit(served: Hub, home: Path) -> None:
    commit = served.repositories[NAME].names["main"]
    found = fetch_any(ADDRESS, home, lambda what, share: None)
    assert {path.name for path in found.folder.iterdir()} == NEEDED
    assert {name: (found.folder / name).read_bytes() for name in NEEDED} == {name: FILES[name] for name in NEEDED}
    assert set(listing(found.folder)) == NEEDED  # plain files: the checkpoint reader takes them
    assert (found.source, found.revision) == (f"{ADDRESS}@{commit}", commit)
    source = pin_fetched("one", found)
    assert (source.source, source.revision, set(source.files)) == (f"{ADDRESS}@{commit}", commit, NEEDED)
    assert not {name for name in asked(served) if name.endswith((".bin", ".py", ".md"))}


def test_what_is_here_is_used_without_a_request(served: Hub, home: Path) -> None:
    first = fetch(home)
    before = len(served.requests)
    assert fetch(home, first.source) == parse(first.source).cached(home) == first
    assert len(served.requests) == before
    assert fetch(home) == first
    assert asked(served)[before:] == ["GET main?blobs=true"]  # what the branch is, no more


def test_what_is_here_is_used_offline(served: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(home)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch(home, first.source) == first
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert str(error).endswith(f"; or name {first.source}, the revision that was fetched last, to ask nobody")


def test_whether_a_model_is_here_is_known_without_a_request(served: Hub, home: Path) -> None:
    assert parse(ADDRESS).cached(home) is None
    assert served.requests == []


def test_a_branch_that_moved_is_the_commit_that_it_is_now(served: Hub, home: Path) -> None:
    first = fetch(home)
    moved = served.push(NAME, FILES | {"model.safetensors": WEIGHTS[::-1]})
    assert moved != first.revision
    assert fetch(home).revision == moved
    assert (fetch(home, f"{ADDRESS}@{moved}").folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert fetch(home, first.source) == first


def test_a_tag_and_a_branch_with_a_slash_are_revisions(served: Hub, home: Path) -> None:
    commit = served.push(NAME, FILES | {"config.json": b"{}"}, name="refs/pr/1")
    assert fetch(home, f"{ADDRESS}@refs/pr/1").revision == commit
    assert fetch(home, f"{ADDRESS}@{commit.upper()}").revision == commit
    assert fetch(home).revision != commit


def test_of_weights_that_are_there_twice_only_those_of_the_index_are_fetched(served: Hub, home: Path) -> None:
    index = {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
            "c": "../elsewhere.safetensors",
        }
    }
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "consolidated.safetensors": b"c",
        "model.safetensors": b"m",
    }
    served.push(
        "org/sharded", files | {"model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2"}
    )
    found = fetch(home, "hf://org/sharded")
    weights = {name for name in found.files if name.endswith(".safetensors")}
    assert weights == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}


def test_names_that_lead_out_of_the_folder_are_left_alone(served: Hub, home: Path) -> None:
    hostile = [
        "../model.safetensors",
        "/etc/model.safetensors",
        "..\\model.safetensors",
        "a/../../config.json",
        ".safetensors",
        "x\n.safetensors",
    ]
    served.push(NAME, FILES | dict.fromkeys(hostile, b"hostile"))
    found = fetch(home)
    assert set(found.files) == NEEDED
    assert not [path for path in home.parent.rglob("*") if path.is_file() and path.read_bytes() == b"hostile"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_byte_of_the_same_size_is_found_removed_and_fetched_again(served: Hub, home: Path, name: str) -> None:
    served.times("flip", only=f"/{name}", count=2)  # HEAD and GET
    error = refused(home)
    assert isinstance(error, ArtefactError)
    assert f"{name}: expected" in str(error)
    assert "run the same command again" in str(error)
    assert parse(ADDRESS).resolve(Access(home, lambda what, share: None)).cached(home) is None
    assert not list(home.rglob(name))
    assert (fetch(home).folder / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("fault", "only"),
    [
        (429, "/api/"),
        (503, "/api/"),
        ("reset", "/api/"),
        (503, "HEAD"),
        ("reset", "HEAD"),
        ("cut", "GET /org"),
        ("short", "GET /org"),
    ],
)
def test_what_passes_is_waited_for(served: Hub, home: Path, fault: str | int, only: str) -> None:
    served.times(fault, only=only)
    found = fetch(home)
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "only", "kind", "text"),
    [
        (503, "/revision/", ServiceError, "answers with status 503; try again later"),
        (429, "/revision/", ServiceError, "asks to come back later"),
        ("reset", "/revision/", ServiceError, "broke off"),
        (403, "GET /org", ServiceError, "refuses access; set HF_TOKEN"),
        ("short", "GET /org", ServiceError, "too short or too long"),
        (404, "/revision/", ServiceError, "check the address and HF_ENDPOINT"),
    ],
)
def test_what_lasts_is_told_and_the_next_run_completes(
    served: Hub, home: Path, fault: str | int, only: str, kind: type, text: str
) -> None:
    served.times(fault, only=only, count=999)
    error = refused(home)
    assert isinstance(error, kind)
    assert text in str(error)
    served.times(fault, count=0)
    assert set(fetch(home).files) == NEEDED


def test_a_gated_model_says_where_to_accept_its_terms(served: Hub, home: Path) -> None:
    served.repositories[NAME].gated = True
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert f"accept its terms at {served.address}/{NAME}, then set HF_TOKEN" in str(error)


def test_a_token_appears_in_no_file_and_no_message(
    served: Hub,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "hf_0123456789secret"
    monkeypatch.setenv("HF_TOKEN", secret)
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert "does not accept the token; set HF_TOKEN to a valid one" in str(error)
    served.tokens, served.repositories[NAME].gated = (secret,), True
    served.times("cut", only="GET /org")
    fetch(home)
    assert secret in {request.token for request in served.requests}
    said = capfd.readouterr()
    assert secret not in f"{error} {error.__cause__} {said.out} {said.err} {caplog.text}"
    assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert said.err == ""  # nor does the client tell of the repetition


@pytest.mark.parametrize(
    ("address", "text"), [("hf://org/nothing", "no such model"), (f"{ADDRESS}@nothing", "no such revision")]
)
def test_what_does_not_exist_is_named(served: Hub, home: Path, address: str, text: str) -> None:
    error = refused(home, address)
    assert isinstance(error, ArtefactError)
    assert text in str(error)


def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(served: Hub, home: Path) -> None:
    served.push("org/old", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    error = refused(home, "hf://org/old")
    assert "expected config.json and safetensors, or a LoRA adapter's, found config.json, pytorch_model.bin" in str(
        error
    )
    assert not [request for request in served.requests if "/resolve/" in request.path]


def test_no_network_is_told(served: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://user:hidden@127.0.0.1:9")
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert "http://***@127.0.0.1:9 cannot be reached" in str(error)
    assert "hidden" not in str(error)


def test_offline_with_nothing_here_is_told(served: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert "HF_HUB_OFFLINE forbids to fetch it" in str(error)
    assert served.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://org",
        "hf://org/",
        "hf://org/name@",
        "hf://../name",
        "hf://org/..",
        "hf://org/name@../x",
        "hf://a/b/c",
    ],
)
def test_an_address_that_cannot_be_is_refused(home: Path, address: str) -> None:
    assert isinstance(refused(home, address), ConfigError)


def test_a_file_that_changed_since_is_fetched_again(served: Hub, home: Path) -> None:
    found = fetch(home)
    weights = found.folder / "model.safetensors"
    weights.write_bytes(b"\1" + WEIGHTS[1:])
    assert parse(found.source).cached(home) is None
    before = len(served.requests)
    assert fetch(home).folder == weights.parent
    assert weights.read_bytes() == WEIGHTS
    assert "GET model.safetensors" in asked(served)[before:]


def test_a_file_that_was_only_touched_is_used(served: Hub, home: Path) -> None:
    found = fetch(home)
    os.utime(found.folder / "model.safetensors")
    assert parse(found.source).cached(home) == found


def test_damage_that_left_no_trace_in_the_folder_is_found_when_the_files_are_pinned(served: Hub, home: Path) -> None:
    found = fetch_any(ADDRESS, home, lambda what, share: None)
    weights = found.folder / "model.safetensors"
    status = weights.stat()
    weights.write_bytes(b"\1" + WEIGHTS[1:])
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = fetch_any(ADDRESS, home, lambda what, share: None)
    with pytest.raises(ArtefactError, match=r"model\.safetensors: expected SHA-256 .* as fetched"):
        pin_fetched("one", again)


def test_a_damaged_record_of_a_commit_is_not_taken_for_none(served: Hub, home: Path) -> None:
    found = fetch(home)
    record = found.folder.with_name(f"{found.revision}.json")
    record.write_bytes(record.read_bytes().replace(b'"files":', b'"file":'))
    with pytest.raises(StateError, match="remove it, then run the same command again"):
        parse(found.source).cached(home)


FETCH = """
import sys
from pathlib import Path
from psomerge.tasks.sources.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), lambda what, share: None)
"""


def test_what_a_killed_process_left_is_cleared_and_the_next_run_completes(served: Hub, home: Path) -> None:
    served.fault = lambda request: (
        "stall" if request.method == "GET" and request.path.endswith("/model.safetensors") else None
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT), "HF_HOME": str(home.parent / "hf")}
    process = subprocess.Popen([sys.executable, "-c", FETCH, ADDRESS, str(home)], env=environment)
    try:
        deadline = time.monotonic() + 60
        while not list(home.rglob("*.incomplete")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    served.times(403, count=0)
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS
    assert not list(home.rglob("*.incomplete"))


def test_models_of_the_hub_are_merged_checked_and_rebuilt_by_commit(served: Hub, home: Path, tmp_path: Path) -> None:
    import torch

    commits: dict[str, str] = {}
    for number, name in enumerate(["base", "one"]):
        tensors = {"model.norm.weight": torch.full((4,), float(number))}
        commits[name] = served.push(f"org/{name}", toy_checkpoint(tmp_path / name, tensors))
    out, again = tmp_path / "out", tmp_path / "again"
    said = psomerge(
        "merge", "linear", "--base", "hf://org/base", "--expert", "hf://org/one@main=0.5", "--out", out, home=home
    )
    assert said.code == 0, said.err
    recipe = json.loads((out / "recipe.json").read_text())
    pinned = [(one["name"], one["source"], one["revision"]) for one in (recipe["base"], *recipe["experts"])]
    assert pinned == [
        ("base", f"hf://org/base@{commits['base']}", commits["base"]),
        ("one", f"hf://org/one@{commits['one']}", commits["one"]),
    ]
    served.push("org/one", {"config.json": b"{}", "model.safetensors": b"moved"})
    other = tmp_path / "another home"
    assert psomerge("materialize", out / "recipe.json", "--out", again, home=other).code == 0
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert psomerge("check", f"hf://org/one@{commits['one']}", "--base", "hf://org/base", home=home).code == 0
    assert psomerge("check", "hf://org/one", "--base", "hf://org/base", home=home).code == 3
    assert psomerge("check", "hf://org/none", home=home).code == 3
