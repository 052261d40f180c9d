"""Addresses of every kind to a local folder: what moves is resolved once, what is kept is proven, and nothing is asked
that need not be."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from doubles.local_mlflow import local_store, published
from made.models import tiny_llama
from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError, ConfigError, VerificationError
from psomerge.tasks.release import registry
from psomerge.tasks.sources.address import SCHEMES, parse
from psomerge.tasks.sources.fetch import fetch, pin_all, pin_fetched
from psomerge.tasks.sources.origin import Access, Fetched, Preview, Scheme
from psomerge.tasks.sources.preview import preview_all
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.store import Store
from runs.command_line import psomerge
from runs.small_run import Small

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A registry with two versions of `merged`, the first of them champion, and its folder as a home."""
    home = tmp_path_factory.mktemp("registry")
    store = local_store(home)
    for seed in (1, 2):
        key = str(seed) * 64
        model = published(home / f"made{seed}", seed=seed)
        run = track.start(store, "merges", run_key=key, name="n")
        model_id = registry.upload(run, model, run_key=key, name="merged")
        version = registry.register(run, "merged", run_key=key, model_id=model_id, tags={}, description="")
        if seed == 1:
            registry.give_alias(store, version, "champion")
    return store, home


@pytest.fixture
def shop(stocked: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Shop"]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store, _ = stocked
    yield Shop(store, tmp_path / "home")
    registry.give_alias(store, registry.Version("merged", "1", {}), "champion")


class Shop:
    """Fetches from a registry into a home, and keeps what was told."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store, self.home = store, home
        self.told: list[str] = []

    @property
    def access(self) -> Access:
        return Access(self.home, lambda what, share: self.told.append(what), lambda: self.store)

    def fetch(self, address: str) -> Fetched:
        return fetch(address, self.home, self.access.progress, store=self.access.store)


def cached(address: str, home: Path) -> Fetched | None:
    return parse(address).cached(home)


def previewed(address: str, home: Path) -> Preview:
    """What a plan sees of one model; raises what it fails with."""
    access = Access(home, lambda what, share: None, lambda: Store("sqlite:///none"))
    previews, failures = preview_all({"base": address}, access)
    for error in failures.values():
        raise error
    return previews["base"]


def weights(stocked: tuple[Store, Path], seed: int) -> bytes:
    return (stocked[1] / f"made{seed}" / "checkpoint" / "model.safetensors").read_bytes()


def test_a_relative_path_is_told_as_the_folder_that_it_means_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fetch("model", tmp_path / "home", lambda what, share: None) == Fetched(
        tmp_path / "model", str(tmp_path / "model")
    )


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "model")
    found = fetch(str(folder), tmp_path / "home", lambda what, share: None)
    assert found == cached(str(folder), tmp_path / "home") == Fetched(folder, str(folder))
    assert len(pin_fetched("one", found).revision) == 40
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("address", "kind", "text"),
    [
        (
            "ftp://host/model",
            ConfigError,
            "expected a local folder, hf://ORG/NAME@REVISION, s3://BUCKET/PREFIX, models:/",
        ),
        ("s3://bucket/../model", ConfigError, "expected s3://BUCKET/PREFIX"),
        ("embedded://nobody@1", ConfigError, "there is no embedded model 'nobody'"),
        ("embedded://base", ConfigError, "expected embedded://NAME@SEED"),
        ("models:/merged", ConfigError, "expected models:/NAME/VERSION"),
        ("models:/merged/latest", ConfigError, "expected models:/NAME/VERSION"),
        ("models:/../1", ConfigError, "expected models:/NAME/VERSION"),
        ("models:/merged/1/x", ConfigError, "expected models:/NAME/VERSION"),
        ("hf://name", ConfigError, "expected hf://ORG/NAME"),
        ("nothing/here", ArtefactError, "expected a checkpoint folder"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_the_same_words_by_plan_and_fetch(
    tmp_path: Path, address: str, kind: type, text: str
) -> None:
    for call in (
        previewed,
        lambda *arguments: fetch(*arguments, lambda what, share: None, store=lambda: Store("sqlite:///none")),
    ):
        with pytest.raises(kind, match=text):
            call(address, tmp_path)


@dataclass(frozen=True)
class Shelved:
    """A made-up origin: `shelf://NAME` is a folder beside the home."""

    address: str
    short: str

    def resolve(self, access: Access) -> "Shelved":
        return Shelved(f"shelf://{self.short}@1", self.short)

    def cached(self, home: Path) -> Fetched | None:
        return None

    def look(self, access: Access, name: str, base: Checkpoint | None) -> Preview:
        return Preview(self.address, None, {"model.safetensors": 7}, unseen="the rest")

    def fetch(self, access: Access) -> Fetched:
        access.progress("taking it off the shelf", 1.0)
        return Fetched(access.home.with_name(self.short), self.address, "1")


def test_a_kind_of_address_is_one_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Scheme(("shelf://NAME",), lambda address: Shelved(address, address.removeprefix("shelf://")))
    monkeypatch.setitem(SCHEMES, "shelf://", line)
    told: list[str] = []
    found = fetch("shelf://seven", tmp_path / "home", lambda what, share: told.append(what))
    assert (found, told) == (Fetched(tmp_path / "seven", "shelf://seven@1", "1"), ["taking it off the shelf"])
    seen = previewed("shelf://seven", tmp_path / "home")
    assert (seen.source, seen.to_fetch, seen.unseen) == ("shelf://seven@1", {"model.safetensors": 7}, "the rest")
    with pytest.raises(ConfigError) as caught:
        parse("ftp://host/model")
    assert str(caught.value) == (
        "ftp://host/model: expected a local folder, hf://ORG/NAME@REVISION, s3://BUCKET/PREFIX, models:/NAME/VERSION, "
        "models:/NAME@ALIAS, embedded://NAME@SEED or shelf://NAME; download the model first and give its folder"
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("hf://org/name", "name"),
        ("hf://org/name@branch/with/slashes", "name"),
        ("s3://bucket/models/one/", "one"),
        (f"s3://bucket/models/one@{'0' * 40}", "one"),
        ("s3://bucket", "bucket"),
        ("models:/merged/1", "merged"),
        ("models:/merged@champion", "merged"),
        ("embedded://so@1", "so"),
        ("some/folder/", "folder"),
        ("folder@2", "folder@2"),
    ],
)
def test_a_model_is_called_by_the_last_part_of_what_names_it(address: str, name: str) -> None:
    assert parse(address).short == name


def test_an_embedded_model_is_not_here_before_it_is_trained(tmp_path: Path) -> None:
    assert cached("embedded://base@1", tmp_path) is None


def test_a_version_is_copied_once_and_pinned_to_itself(shop: Shop, stocked: tuple[Store, Path]) -> None:
    assert cached("models:/merged/2", shop.home) is None
    found = shop.fetch("models:/merged/2")
    assert (found.folder / "model.safetensors").read_bytes() == weights(stocked, 2)
    assert (found.source, found.revision) == ("models:/merged/2", "merged/2")
    source = pin_all({"one": found})["one"]
    assert (source.source, source.revision) == ("models:/merged/2", "merged/2")
    shop.told.clear()
    assert shop.fetch("models:/merged/2") == found
    assert shop.told == []


def test_an_alias_is_the_version_that_bears_it_now(shop: Shop) -> None:
    assert parse("models:/merged@champion").resolve(shop.access).address == "models:/merged/1"
    assert shop.fetch("models:/merged@champion").source == "models:/merged/1"
    registry.give_alias(shop.store, registry.Version("merged", "2", {}), "champion")
    assert shop.fetch("models:/merged@champion").source == "models:/merged/2"
    assert parse("models:/merged/1").resolve(shop.access) == parse("models:/merged/1")


def test_a_damaged_copy_is_noticed_and_replaced(shop: Shop, stocked: tuple[Store, Path]) -> None:
    file = shop.fetch("models:/merged/1").folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    shop.told.clear()
    assert shop.fetch("models:/merged/1").folder == file.parent
    assert file.read_bytes() == weights(stocked, 1)
    assert "model/model.safetensors: expected SHA-256" in shop.told[0]
    assert not [path for path in file.parents[2].iterdir() if path.name not in ("1", ".lock")]


def test_a_version_that_is_not_what_was_published_is_refused(shop: Shop, stocked: tuple[Store, Path]) -> None:
    assert shop.store.artifacts
    kept = next(
        path
        for path in shop.store.artifacts.rglob("model/model.safetensors")
        if path.read_bytes() == weights(stocked, 1)
    ).with_name("config.json")
    content = kept.read_bytes()
    try:
        kept.write_text("{}")
        with pytest.raises(
            VerificationError,
            match=r"models:/merged/1 at sqlite.* is not what was published: model/config.json: expected SHA-256",
        ):
            shop.fetch("models:/merged/1")
    finally:
        kept.write_bytes(content)
    assert cached("models:/merged/1", shop.home) is None
    assert shop.fetch("models:/merged/1").source == "models:/merged/1"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("models:/merged/7", "has no such version; known are 1, 2"),
        ("models:/nothing/1", "there is no model of this name"),
        ("models:/merged@nobody", "no such model or alias"),
    ],
)
def test_what_the_registry_does_not_have_is_named(shop: Shop, address: str, text: str) -> None:
    with pytest.raises(ArtefactError, match=text):
        shop.fetch(address)


def test_two_registries_do_not_share_their_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = tmp_path / "experts" / "registry" / "home" / "merged" / "1" / "model"
    place.mkdir(parents=True)
    assert cached("models:/merged/1", tmp_path) == Fetched(place, "models:/merged/1", "merged/1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hidden@elsewhere.example")
    assert cached("models:/merged/1", tmp_path) is None


def test_a_registered_model_is_merged_checked_and_rebuilt_by_its_version(
    stocked: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, home = stocked
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out, again = tmp_path / "out", tmp_path / "again"
    said = psomerge(
        "merge", "linear", "--base", "models:/merged/2", "--expert", "models:/merged@champion", "--out", out, home=home
    )
    assert said.code == 0, said.err
    recipe = json.loads((out / "recipe.json").read_text())
    pinned = [(one["name"], one["source"], one["revision"]) for one in (recipe["base"], *recipe["experts"])]
    assert pinned == [("base", "models:/merged/2", "merged/2"), ("merged", "models:/merged/1", "merged/1")]
    assert psomerge("materialize", out / "recipe.json", "--out", again, home=home).code == 0
    assert (again / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()
    said = psomerge("check", "models:/merged@champion", "--base", "models:/merged/2", home=home)
    assert said.code == 0, said.err
    assert "manifest holds" in said.out


IMPORTED = """
import json, sys
from pathlib import Path
from psomerge.tasks.sources.address import parse
from psomerge.tasks.sources.fetch import fetch
fetch(sys.argv[1], Path("home"), lambda what, share: None)
parse("hf://org/name").cached(Path("home"))
parse("models:/name/1").cached(Path("home"))
parse("s3://bucket/name").cached(Path("home"))
slow = {"mlflow", "prefect", "torch", "huggingface_hub", "transformers", "boto3", "botocore"}
print(json.dumps(sorted(slow & set(sys.modules))))
"""


def test_neither_the_hub_nor_s3_nor_the_registry_is_imported_for_a_local_folder_or_a_plan(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-c", IMPORTED, str(tmp_path / "model")]
    done = subprocess.run(
        command, env=Small(tmp_path).environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, json.loads(done.stdout or "null")) == (0, []), done.stderr
