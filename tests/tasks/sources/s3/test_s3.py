"""Models of S3: the bytes that were listed once, proven, asked for once. boto3 talks to moto's server on loopback,
through a proxy that makes faults."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from doubles.s3_server import KEY, S3, SECRET, behind, passed_off, serving
from made.models import toy_checkpoint
from places import ROOT
from psomerge.errors import ArtefactError, ConfigError, PsomergeError, ServiceError, StateError
from psomerge.files.untrusted import listing
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.cache import temporary
from psomerge.tasks.sources.fetch import fetch as fetch_any
from psomerge.tasks.sources.fetch import pin_fetched
from psomerge.tasks.sources.origin import Fetched
from runs.command_line import psomerge

pytestmark = pytest.mark.heavy

__all__ = ["behind"]

ADDRESS = "s3://bucket/models/one"
WEIGHTS = bytes(range(256)) * 400
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "tokenizer.json": b'{"version": "1.0"}',
    "merges.txt": b"",
    "model.safetensors": WEIGHTS,
    "README.md": b"# tiny",
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"raise SystemExit",
    "onnx/model.safetensors": b"another format",
    "": b"",
}
NEEDED = {"config.json", "tokenizer.json", "merges.txt", "model.safetensors"}


@pytest.fixture
def served(behind: tuple[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3]:
    """A bucket with one model."""
    with serving(behind) as s3:
        s3.put(FILES)
        passed_off(s3, monkeypatch, tmp_path)
        yield s3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def fetch(home: Path, address: str = ADDRESS) -> Fetched:
    return fetch_any(address, home, lambda what, share: None)


def cached(address: str, home: Path) -> Fetched | None:
    return parse(address).cached(home)


def refused(home: Path, address: str = ADDRESS) -> PsomergeError:
    """What a fetch fails with: one line that names the address and none of the secrets."""
    with pytest.raises(PsomergeError) as caught:
        fetch(home, address)
    said = f"{caught.value} {caught.value.__cause__}"
    assert "\n" not in str(caught.value)
    assert address in str(caught.value)
    assert not [secret for secret in (KEY, SECRET, "127.0.0.1") if secret in said], said
    return caught.value


def test_only_the_files_of_a_checkpoint_are_fetched_and_pinned_to_what_was_listed(served: S3, home: Path) -> None:
    found = fetch_any(ADDRESS, home, lambda what, share: None)
    assert {path.name for path in found.folder.iterdir()} == NEEDED
    assert {name: (found.folder / name).read_bytes() for name in NEEDED} == {name: FILES[name] for name in NEEDED}
    assert set(listing(found.folder)) == NEEDED
    # by hand: canonical JSON of name -> [size, ETag], and the ETag of a file in one part is its MD5
    content = {name: [len(FILES[name]), hashlib.md5(FILES[name]).hexdigest()] for name in NEEDED}
    revision = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:40]
    assert (found.source, found.revision) == (f"{ADDRESS}@{revision}", revision)
    source = pin_fetched("one", found)
    assert (source.source, source.revision, set(source.files)) == (f"{ADDRESS}@{revision}", revision, NEEDED)
    assert {line for line in served.asked() if line.startswith("GET")} == {
        f"GET {name}" for name in NEEDED - {"merges.txt"}
    }


def test_what_is_here_is_used_without_a_request(served: S3, home: Path) -> None:
    first = fetch(home)
    assert served.asked().count("LIST") == 1
    served.requests.clear()
    assert fetch(home, first.source) == cached(first.source, home) == first
    assert served.requests == []
    assert fetch(home) == fetch(home, f"{ADDRESS}/") == first
    assert not [line for line in served.asked() if line.startswith("GET")]  # what the prefix is was asked, no more


def test_what_is_here_is_used_when_nobody_answers(
    behind: tuple[str, int], served: S3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(behind) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.address)
        other.put(FILES)
        first = fetch(home)
    assert fetch(home, first.source) == first
    error = refused(home)
    assert isinstance(error, ServiceError)
    assert str(error).endswith(f"; or name {first.source}, the revision that was fetched last, to ask nobody")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert fetch(home, first.source) == first


def test_a_prefix_is_a_folder_and_not_what_other_keys_begin_with(served: S3, home: Path) -> None:
    served.put(FILES | {"model.safetensors": b"another", "vocab.json": b"{}"}, "models/one-b/")
    served.put({"config.json": b"{}", "model.safetensors": b"root"}, "")
    assert set(fetch(home).files) == set(fetch(home, f"{ADDRESS}/").files) == NEEDED
    assert fetch(home, "s3://bucket/models/one-b").files.keys() == NEEDED | {"vocab.json"}
    assert (
        fetch(home, "s3://bucket").files.keys()
        == fetch(home, "s3://bucket/").files.keys()
        == {"config.json", "model.safetensors"}
    )
    assert fetch(home, "s3://bucket").source.startswith("s3://bucket@")


def test_the_same_files_written_again_or_elsewhere_are_the_same_revision(served: S3, home: Path) -> None:
    first = fetch(home)
    served.put(FILES)
    served.put(FILES | {"README.md": b"another"}, "copy/")
    assert fetch(home.parent / "another home").revision == fetch(home, "s3://bucket/copy").revision == first.revision


def test_what_was_written_since_is_another_revision(served: S3, home: Path) -> None:
    first = fetch(home)
    served.put({"model.safetensors": WEIGHTS[::-1]})
    assert fetch(home, first.source) == first
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    (first.folder / "model.safetensors").unlink()
    error = refused(home, first.source)
    assert isinstance(error, ArtefactError)
    assert (
        "model.safetensors is no longer as it was listed, and the bucket keeps no version of it; restore it, or "
        "take what is there when nobody writes: the prefix without a revision" in str(error)
    )
    served.put(FILES)
    assert (fetch(home, first.source).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_revision_that_is_gone_is_refused_in_another_home(served: S3, home: Path) -> None:
    first = fetch(home)
    served.put({"model.safetensors": WEIGHTS[::-1]})
    error = refused(home.parent / "another home", first.source)
    assert isinstance(error, ArtefactError)
    assert (
        f"expected these files at {ADDRESS}, found revision {fetch(home.parent / 'a third home').revision}; restore "
        "them" in str(error)
    )


def versioned(served: S3) -> None:
    served.client.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})


def test_a_revision_of_a_bucket_with_versions_is_found_whatever_was_written_and_removed_since(
    served: S3, home: Path
) -> None:
    versioned(served)
    served.put(FILES)
    first = fetch(home)
    time.sleep(1.1)  # S3 tells times in whole seconds
    served.put({"model.safetensors": WEIGHTS[::-1]})
    second = fetch(home.parent / "another home")
    time.sleep(1.1)
    served.client.delete_object(Bucket="bucket", Key="models/one/config.json")
    served.put({"tokenizer.json": b"{}"})
    for one, weights in ((first, WEIGHTS), (second, WEIGHTS[::-1])):
        found = fetch(home.parent / f"home {one.revision}", one.source)
        assert (found.revision, found.files) == (one.revision, one.files)
        assert (found.folder / "model.safetensors").read_bytes() == weights
    (first.folder / "model.safetensors").unlink()
    assert fetch(home, first.source) == first  # the version is on record: no search
    assert served.asked().count("VERSIONS") == 2


def test_a_server_that_shows_no_versions_is_said(served: S3, home: Path) -> None:
    first = fetch(home)
    served.put({"model.safetensors": WEIGHTS[::-1]})
    served.times((403, "AccessDenied"), only="versions", count=9)
    assert "and S3 does not show its earlier versions" in str(refused(home.parent / "another home", first.source))


def changing(served: S3, only: str) -> None:
    """Has the weights written anew just before the first request that holds `only`."""
    done: list[str] = []

    def change(request: object) -> None:
        if not done and only in f"{request.method} {request.path}":  # pyright: ignore[reportAttributeAccessIssue]
            done.append(only)
            served.put({"model.safetensors": WEIGHTS[::-1]})

    served.act = change


@pytest.mark.parametrize("only", ["HEAD /bucket/models/one/model", "GET /bucket/models/one/model"])
def test_a_file_that_changes_meanwhile_is_refused_and_the_next_run_takes_what_is_there(
    served: S3, home: Path, only: str
) -> None:
    changing(served, only)
    error = refused(home)
    assert isinstance(error, ArtefactError)
    assert "model.safetensors is no longer as it was listed" in str(error)
    assert "take what is there when nobody writes: the prefix without a revision" in str(error)
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_file_that_changes_meanwhile_is_fetched_as_it_was_where_the_bucket_keeps_versions(
    served: S3, home: Path
) -> None:
    versioned(served)
    served.put(FILES)
    changing(served, "GET /bucket/models/one/model")
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_of_weights_that_are_there_twice_only_those_of_the_index_are_fetched(served: S3, home: Path) -> None:
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
    served.put(files | {"model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": b"2"}, "sharded/")
    found = fetch(home, "s3://bucket/sharded")
    weights = {name for name in found.files if name.endswith(".safetensors")}
    assert weights == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}


def test_names_that_lead_out_of_the_folder_are_left_alone(served: S3, home: Path) -> None:
    hostile = [
        "../model.safetensors",
        "/etc/model.safetensors",
        "..\\model.safetensors",
        "a/../../config.json",
        ".safetensors",
        "..safetensors",
    ]
    served.put(dict.fromkeys(hostile, b"hostile"))
    found = fetch(home)
    assert set(found.files) == NEEDED
    assert not [path for path in home.parent.rglob("*") if path.is_file() and path.read_bytes() == b"hostile"]


def test_further_chat_templates_and_a_tokenizer_in_other_files_are_fetched_and_pinned(served: S3, home: Path) -> None:
    more = {"additional_chat_templates/rag.jinja": b"{{ messages }}", "spiece.model": b"\n\x00"}
    left = {"additional_chat_templates/deep/a.jinja": b"x", "additional_chat_templates/a.py": b"x"}
    served.put(more | left)
    found = fetch(home)
    assert set(found.files) == NEEDED | more.keys()
    assert {name: (found.folder / name).read_bytes() for name in more} == more
    served.requests.clear()
    assert fetch(home, found.source).files == found.files
    assert served.requests == []


def test_a_listing_in_pages_is_read_to_its_end(served: S3, home: Path) -> None:
    served.times("pages", only="list-type", count=99)
    assert set(fetch(home).files) == NEEDED
    assert served.asked().count("LIST") > 3


def in_parts(served: S3, content: bytes) -> None:
    """Uploads the weights in two parts: their ETag is no MD5."""
    place = {"Bucket": "bucket", "Key": "models/one/model.safetensors"}
    upload = served.client.create_multipart_upload(**place)["UploadId"]
    parts = []
    for number, part in enumerate((content[: 5 * 2**20], content[5 * 2**20 :]), 1):
        tag = served.client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    served.client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})


def test_files_that_came_in_parts_are_held_against_our_own_digest_from_the_first_fetch_on(
    served: S3, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "BLOCK", 2**21)
    content = bytes(range(256)) * 21_000
    in_parts(served, content)
    weights = fetch(home).folder / "model.safetensors"
    assert weights.read_bytes() == content
    weights.write_bytes(b"\1" + content[1:])
    served.times("flip", only="GET /bucket/models/one/model", count=1)
    assert f"model.safetensors: expected SHA-256 {hashlib.sha256(content).hexdigest()}, found" in str(refused(home))
    assert not weights.exists()
    assert (fetch(home).folder / "model.safetensors").read_bytes() == content


def test_of_a_file_with_a_key_of_its_own_the_checksum_counts_and_not_what_looks_like_an_md5(
    served: S3, home: Path
) -> None:
    place = {"Bucket": "bucket", "Key": "models/one/model.safetensors"}
    served.client.put_object(**place, Body=WEIGHTS, ServerSideEncryption="aws:kms", ChecksumAlgorithm="SHA256")
    served.times("flip", only="GET /bucket/models/one/model", count=1)
    assert f"model.safetensors: expected SHA-256 {hashlib.sha256(WEIGHTS).hexdigest()}, found" in str(refused(home))
    known = json.loads(next(home.rglob("*.objects.json")).read_bytes())["objects"]["model.safetensors"]
    assert known[-2:] == [hashlib.sha256(WEIGHTS).hexdigest(), None]
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_flipped_byte_that_the_client_itself_notices_is_asked_for_again(served: S3, home: Path) -> None:
    served.client.put_object(
        Bucket="bucket", Key="models/one/config.json", Body=FILES["config.json"], ChecksumAlgorithm="CRC32"
    )
    served.times("flip", only="GET /bucket/models/one/config.json")
    assert (fetch(home).folder / "config.json").read_bytes() == FILES["config.json"]
    assert served.asked().count("GET config.json") == 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_flipped_byte_of_the_same_size_is_found_removed_and_fetched_again(served: S3, home: Path, name: str) -> None:
    served.times("flip", only=f"GET /bucket/models/one/{name}")
    error = refused(home)
    assert isinstance(error, ArtefactError)
    assert f"{name}: expected MD5 {hashlib.md5(FILES[name]).hexdigest()}, found" in str(error)
    assert "run the same command again" in str(error)
    assert not list(home.rglob(f"*/{name}"))
    assert (fetch(home).folder / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("fault", "only"),
    [
        ((503, "SlowDown"), "list-type"),
        ("reset", "list-type"),
        (503, "HEAD"),
        ((503, "SlowDown"), "GET /bucket/m"),
        ("reset", "GET /bucket/m"),
    ]
    + [(kind, "GET /bucket/models/one/model") for kind in ("cut", "short", "whole")],
)
def test_what_passes_is_waited_for(
    served: S3, home: Path, monkeypatch: pytest.MonkeyPatch, fault: str | int | tuple[int, str], only: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    served.times(fault, only=only)
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "only", "kind", "text"),
    [
        ((503, "SlowDown"), "list-type", ServiceError, "S3 asks to come back later"),
        (
            (500, "InternalError"),
            "GET /bucket/models/one/model",
            ServiceError,
            "S3 answers with InternalError; try again later",
        ),
        ((403, "AccessDenied"), "list-type", ServiceError, "need the rights s3:ListBucket and s3:GetObject"),
        (403, "HEAD", ServiceError, "need the rights s3:ListBucket and s3:GetObject"),
        (
            (403, "AccessDenied"),
            "GET /bucket/models/one/model",
            ServiceError,
            "need the rights s3:ListBucket and s3:GetObject",
        ),
        (
            (403, "InvalidAccessKeyId"),
            "list-type",
            ServiceError,
            "does not accept the credentials; set AWS_ACCESS_KEY_ID",
        ),
        (
            (403, "SignatureDoesNotMatch"),
            "list-type",
            ServiceError,
            "does not accept the credentials; set AWS_ACCESS_KEY_ID",
        ),
        ((400, "ExpiredToken"), "list-type", ServiceError, "the credentials have expired"),
        ((403, "RequestTimeTooSkewed"), "list-type", ServiceError, "clock wrong"),
        ((301, "PermanentRedirect"), "/bucket", ServiceError, "lies in another region; set AWS_DEFAULT_REGION"),
        ((403, "InvalidObjectState"), "GET /bucket/models/one/model", ServiceError, "is archived; restore it"),
        ((400, "A &lt;b&gt;"), "list-type", ServiceError, "S3 answers with an error that it has no plain name for"),
        ("reset", "list-type", ServiceError, "cannot be reached or broke off"),
        ("reset", "GET /bucket/models/one/model", ServiceError, "cannot be reached or broke off"),
        ("short", "GET /bucket/models/one/model", ServiceError, "broke off (BrokenError)"),
        ("whole", "GET /bucket/models/one/model", ServiceError, "broke off (BrokenError)"),
        (
            (404, "NoSuchKey"),
            "GET /bucket/models/one/model",
            ArtefactError,
            "model.safetensors is no longer as it was listed",
        ),
    ],
)
def test_what_lasts_is_told_and_the_next_run_completes(
    served: S3, home: Path, fault: str | int | tuple[int, str], only: str, kind: type, text: str
) -> None:
    served.times(fault, only=only, count=999)
    error = refused(home)
    assert isinstance(error, kind)
    assert text in str(error)
    served.times(fault, count=0)
    assert set(fetch(home).files) == NEEDED


def test_a_bucket_of_another_region_is_asked_there(served: S3, home: Path) -> None:
    served.times((301, "PermanentRedirect"), only="list-type")
    assert set(fetch(home).files) == NEEDED
    listed = [one.headers["Authorization"] for one in served.requests if "list-type" in one.path]
    assert ["/eu-west-1/s3/" in one for one in listed] == [False, True]


def test_blocks_that_are_there_are_not_asked_for_again(served: S3, home: Path) -> None:
    third = "bytes=65536-98303"

    def refuse(request: object) -> int | None:
        return 403 if request.headers.get("Range") == third else None  # pyright: ignore[reportAttributeAccessIssue]

    served.act = refuse
    told: list[float] = []
    refused(home)
    served.act = lambda request: None
    served.requests.clear()
    fetch_any(ADDRESS, home, lambda what, share: told.append(share))
    ranges = [
        request.headers["Range"]
        for request in served.requests
        if request.method == "GET" and "model" in request.path.rpartition("/")[2]
    ]
    assert third in ranges
    assert told[-1] == 1.0
    assert (fetch(home).folder / "model.safetensors").read_bytes() == WEIGHTS


FETCH = """
import sys
from pathlib import Path
from psomerge.tasks.sources.cache import temporary
from psomerge.tasks.sources.fetch import fetch
temporary.BLOCK = 2**15
fetch(sys.argv[1], Path(sys.argv[2]), lambda what, share: None)
"""


def test_of_a_killed_process_only_the_block_in_flight_is_fetched_again(served: S3, home: Path) -> None:
    served.act = lambda request: "stall" if request.headers.get("Range") == "bytes=65536-98303" else None
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, ADDRESS, str(home)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        deadline = time.monotonic() + 60
        while not [path for path in home.rglob("model.safetensors.blocks") if path.read_text().count("\n") == 3]:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    served.act = lambda request: None
    served.requests.clear()
    found = fetch(home)
    assert (found.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [one.headers["Range"] for one in served.requests if one.method == "GET" and "Range" in one.headers] == [
        "bytes=65536-98303"
    ]
    assert {path.name for path in found.folder.iterdir()} == NEEDED


def test_what_a_dying_machine_left_half_written_of_the_list_of_blocks_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "BLOCK", 4)
    file = temporary.Temporary(tmp_path / "file", 10)
    file.finish(range(0, 4))
    (tmp_path / "file.blocks").write_text("0-4\n4-8")
    assert temporary.Temporary(tmp_path / "file", 10).lacking() == [range(4, 8), range(8, 10)]
    assert temporary.Temporary(tmp_path / "file", 11).lacking() == [range(0, 4), range(4, 8), range(8, 11)]


def test_without_credentials_requests_are_anonymous(served: S3, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    served.client.put_bucket_acl(Bucket="bucket", ACL="public-read")
    for name in NEEDED:
        served.client.put_object_acl(Bucket="bucket", Key=f"models/one/{name}", ACL="public-read")
    served.times((403, "AccessDenied"), only="list-type")
    assert (
        "S3 refuses access without credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        in str(refused(home))
    )
    assert set(fetch(home).files) == NEEDED
    assert not [request for request in served.requests if "Authorization" in request.headers]


def test_a_profile_of_the_configuration_files_is_used(
    served: S3, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile mine]\nendpoint_url = {served.address}\nregion = eu-north-1\n")
    (tmp_path / "keys").write_text(f"[mine]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert set(fetch(home).files) == NEEDED
    assert f"{KEY}/" in served.requests[-1].headers["Authorization"]
    monkeypatch.setenv("AWS_PROFILE", "nobody's")
    error = refused(home, "s3://bucket/models/two")
    assert isinstance(error, ConfigError)
    assert "AWS_PROFILE names a profile that AWS's configuration files do not have" in str(error)


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        (
            "AWS_ENDPOINT_URL",
            "http://user:hidden@127.0.0.1:9",
            ServiceError,
            "cannot be reached or broke off (EndpointConnectionError); check the network and AWS_ENDPOINT_URL",
        ),
        (
            "AWS_ENDPOINT_URL",
            "no address with hidden in it",
            ConfigError,
            "the settings for S3 cannot be used (ValueError); check AWS_ENDPOINT_URL",
        ),
        ("AWS_SECRET_ACCESS_KEY", "", ConfigError, "the credentials are incomplete; set AWS_ACCESS_KEY_ID"),
    ],
)
def test_settings_that_lead_nowhere_are_told_without_their_values(
    served: S3, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: type, text: str
) -> None:
    monkeypatch.setenv(name, value)
    error = refused(home)
    assert isinstance(error, kind)
    assert text in str(error)
    assert "hidden" not in f"{error} {error.__cause__}"


def test_credentials_and_endpoint_appear_in_no_file_and_no_message(
    served: S3, home: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    served.times((403, "SignatureDoesNotMatch"))
    error = refused(home)
    served.times("cut", only="GET /bucket/models/one/model")
    fetch(home)
    assert f"{KEY}/" in served.requests[-1].headers["Authorization"]
    said = capfd.readouterr()
    text = (
        f"{error!r} {error.__cause__!r} {said.out} {said.err} "
        f"{[record.getMessage() for record in caplog.records if not record.name.startswith('werkzeug')]}"
    )
    for secret in (KEY, SECRET, served.address.removeprefix("http://")):
        assert secret not in text
        assert not [
            path
            for path in home.rglob("*")
            if secret in str(path) or (path.is_file() and secret.encode() in path.read_bytes())
        ]
    assert said.err == ""


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("s3://bucket/nothing", "found nothing; name such a model"),
        ("s3://bucket/models", "found nothing; name such a model"),
        ("s3://bucket/models/one/config.json", "found nothing; name such a model"),
        ("s3://bucket/models/one@main", "a revision, behind the last @, is 40 hex digits"),
        (f"s3://bucket/models/one@{'0' * 39}", "a revision, behind the last @, is 40 hex digits"),
        ("s3://nobucket/models/one", "there is no bucket 'nobucket'; check the name and AWS_ENDPOINT_URL"),
    ],
)
def test_what_does_not_exist_is_named(served: S3, home: Path, address: str, text: str) -> None:
    error = refused(home, address)
    assert isinstance(error, ArtefactError)
    assert text in str(error)


IMPOSSIBLE = """
s3:// s3:///models s3://b s3://bu..cket/m s3://bucket/../m s3://bucket/a//b s3://bucket//a s3://bucket/./a
s3://key:secret@bucket/m
"""


@pytest.mark.parametrize("address", [*IMPOSSIBLE.split(), "s3://bucket/a\nb", "s3://bucket/" + "a" * 1001])
def test_an_address_that_cannot_be_is_refused(home: Path, address: str) -> None:
    for call in (lambda: cached(address, home), lambda: fetch(home, address)):
        with pytest.raises(ConfigError, match="expected s3://BUCKET/PREFIX or s3://BUCKET/PREFIX@REVISION"):
            call()


@pytest.mark.parametrize("prefix", ["org@team/model", "run=5/step=1000", "a: b #c?d%20", "x@y=0.5"])
def test_a_prefix_of_any_characters_is_the_model_that_lies_there(served: S3, home: Path, prefix: str) -> None:
    served.put(FILES, f"{prefix}/")
    found = fetch(home, f"s3://bucket/{prefix}")
    assert found.source == f"s3://bucket/{prefix}@{found.revision}"
    assert fetch(home, found.source) == found


def test_a_long_prefix_of_any_letters_is_a_folder(served: S3, home: Path) -> None:
    prefix = "größer als/" + "x" * 300
    served.put(FILES, f"{prefix}/")
    found = fetch(home, f"s3://bucket/{prefix}")
    assert found == cached(found.source, home)
    assert set(found.files) == NEEDED


def test_without_boto3_it_is_said_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(
        ConfigError,
        match=r"s3://bucket/models/one: S3 needs the package boto3, which is not installed; install "
        r"psomerge\[services\]",
    ):
        fetch(home)


def test_a_damaged_record_is_not_taken_for_none(served: S3, home: Path) -> None:
    found = fetch(home)
    record = found.folder.with_name(f"{found.revision}.json")
    record.write_bytes(record.read_bytes().replace(b'"files":', b'"file":'))
    with pytest.raises(StateError, match="remove it, then run the same command again"):
        cached(found.source, home)


def test_models_of_s3_are_merged_checked_and_rebuilt_by_revision(served: S3, home: Path, tmp_path: Path) -> None:
    import torch

    for number, name in enumerate(["base", "one"]):
        folder = toy_checkpoint(tmp_path / name, {"model.norm.weight": torch.full((4,), float(number))})
        served.put({path.name: path.read_bytes() for path in folder.iterdir()}, f"toys/{name}/")
    out, again = tmp_path / "out", tmp_path / "again"
    said = psomerge(
        "merge",
        "linear",
        "--base",
        "s3://bucket/toys/base",
        "--expert",
        "s3://bucket/toys/one/=0.5",
        "--out",
        out,
        home=home,
    )
    assert said.code == 0, said.err
    recipe = json.loads((out / "recipe.json").read_text())
    revisions = [fetch(home, f"s3://bucket/toys/{name}").revision for name in ("base", "one")]
    pinned = [(one["name"], one["source"], one["revision"]) for one in (recipe["base"], *recipe["experts"])]
    assert pinned == [
        (name, f"s3://bucket/toys/{name}@{revision}", revision)
        for name, revision in zip(("base", "one"), revisions, strict=True)
    ]
    other = tmp_path / "another home"
    assert psomerge("materialize", out / "recipe.json", "--out", again, home=other).code == 0
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    assert psomerge("check", "s3://bucket/toys/one", "--base", "s3://bucket/toys/base", home=home).code == 0
    assert psomerge("check", "s3://bucket/toys/none", home=home).code == 3
