"""Versions that others registered, with MLflow's own functions: experts like any, held to what they were at the first
fetch."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from doubles.local_mlflow import local_store, published, server
from doubles.stock_mlflow import logged, of_run
from made.adapters import lora
from made.models import tiny_llama
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError, StateError, VerificationError
from psomerge.merge.basis import open_expert
from psomerge.tasks.release import registry
from psomerge.tasks.release.registry import Version
from psomerge.tasks.sources.fetch import fetch, pin_fetched
from psomerge.tasks.sources.origin import Access, Fetched, Preview
from psomerge.tasks.sources.preview import preview_all
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.store import Store
from runs.command_line import psomerge

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
    ),
]


@dataclass(frozen=True)
class Shop:
    """A registry, a base with an expert and an adapter, and a home."""

    store: Store
    folder: Path
    home: Path

    def fetch(self, version: Version) -> Fetched:
        return fetch(version.uri, self.home, lambda what, share: None, store=lambda: self.store)

    def seen(self, version: Version) -> Preview:
        """What a plan sees of it as an expert of the base."""
        access = Access(self.home, lambda what, share: None, lambda: self.store)
        found, failures = preview_all({"base": str(self.folder / "base"), "one": version.uri}, access)
        for error in failures.values():
            raise error
        return found["one"]

    def files(self, version: Version) -> Path:
        """Where the registry keeps a version's files."""
        import mlflow

        with track.connect(self.store):
            return Path(mlflow.artifacts.download_artifacts(version.uri))


@pytest.fixture(scope="module", params=["files", "server"])
def stocked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("stock")
    base = tiny_llama(folder / "base")
    tiny_llama(folder / "expert", 1)
    lora(base, folder / "adapter", 1, r=4, target_modules=["q_proj"])
    if request.param == "files":
        yield local_store(folder), folder
    else:
        with server(folder) as address:
            yield Store(address), folder


@pytest.fixture
def shop(stocked: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Shop(*stocked, tmp_path / "home")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_checkpoint_folder_that_mlflow_logged_is_an_expert(shop: Shop) -> None:
    version = logged(shop.store, str(shop.folder / "expert"), "folder")
    seen = shop.seen(version)
    assert seen.checkpoint is not None
    assert seen.checkpoint.tensors.keys() == open_checkpoint(shop.folder / "expert").tensors.keys()
    found = shop.fetch(version)
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == {
        path.name: path.read_bytes() for path in (shop.folder / "expert").iterdir()
    }
    assert seen.to_fetch == {path.name: path.stat().st_size for path in found.folder.iterdir()}
    assert pin_fetched("one", found).source == version.uri


def test_a_model_whose_tokenizer_is_a_part_of_its_own_has_it_beside_the_weights(shop: Shop) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(shop.folder / "expert") for kind in (AutoModelForCausalLM, AutoTokenizer))
    version = logged(shop.store, {"model": model, "tokenizer": tokenizer}, "parts")
    seen = shop.seen(version)
    assert seen.checkpoint is not None
    found = shop.fetch(version)
    assert {"tokenizer.json", "tokenizer_config.json", "config.json"} <= seen.to_fetch.keys()
    assert seen.to_fetch.keys() == {path.name for path in found.folder.iterdir()}
    assert same(tensors(found.folder), tensors(shop.folder / "expert"))
    assert AutoTokenizer.from_pretrained(found.folder).encode("salut") == tokenizer.encode("salut")


def test_of_a_peft_model_the_adapter_is_the_expert(shop: Shop) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(shop.folder / "base")
    parts = {
        "model": PeftModel.from_pretrained(base, shop.folder / "adapter"),
        "tokenizer": AutoTokenizer.from_pretrained(shop.folder / "base"),
    }
    version = logged(shop.store, parts, "adapter")
    assert shop.seen(version).checkpoint is not None
    found = shop.fetch(version).folder
    assert not (found / "model.safetensors").exists()  # as MLflow saved it, it is no checkpoint of transformers
    against = open_checkpoint(shop.folder / "base", "base")
    delta = [open_expert(folder, "one", against) for folder in (found, shop.folder / "adapter")]
    assert same(*(load_file(one.folder / "adapter_model.safetensors") for one in delta))


@pytest.mark.parametrize("path", ["", "checkpoint-500", "a/b"])
def test_artifacts_of_a_run_that_were_registered_are_found_wherever_they_lie(shop: Shop, path: str) -> None:
    version = of_run(shop.store, {path: shop.folder / "expert", "notes": notes(shop)}, "plain" + path.replace("/", "-"))
    assert shop.seen(version).checkpoint is not None
    assert same(tensors(shop.fetch(version).folder), tensors(shop.folder / "expert"))


def notes(shop: Shop) -> Path:
    folder = shop.folder / "notes"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_what_holds_no_checkpoint_or_several_is_refused_with_what_is_there(shop: Shop) -> None:
    two = of_run(shop.store, {"one": shop.folder / "base", "two": shop.folder / "expert"}, "two")
    none = of_run(shop.store, {"notes": notes(shop)}, "none")
    for call in (shop.seen, shop.fetch):
        with pytest.raises(ArtefactError, match="/two/1: expected one checkpoint, found several: one, two; name"):
            call(two)
        with pytest.raises(ArtefactError, match=r"models:/none/1: expected config.json and safetensors.*notes/config"):
            call(none)


def test_a_version_that_only_names_a_model_of_the_hub_says_which(shop: Shop) -> None:
    folder = shop.folder / "reference"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(
        "flavors: {transformers: {source_model_name: org/name, source_model_revision: abc}}\n"
    )
    version = of_run(shop.store, {"": folder}, "reference")
    for call in (shop.seen, shop.fetch):
        with pytest.raises(
            ArtefactError, match="holds no weights, it only names a model of the hub; name hf://org/name"
        ):
            call(version)


def test_files_are_held_to_what_they_were_at_the_first_fetch(shop: Shop) -> None:
    version = logged(shop.store, str(shop.folder / "expert"), "held")
    first = shop.fetch(version)
    weights = first.folder / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert shop.fetch(version) == first
    assert same(tensors(first.folder), tensors(shop.folder / "expert"))
    record = first.folder.parent.with_name("1.fetched.json")
    if not shop.store.database:
        return  # the registry's own files are the server's
    kept = shop.files(version) / "model" / "model.safetensors"
    changed = tensors(shop.folder / "expert")
    save_file({name: tensor + 1 for name, tensor in changed.items()}, str(kept), metadata={"format": "pt"})
    shutil.rmtree(first.folder.parent)
    with pytest.raises(VerificationError, match=rf"held/1 .*not what it was when .*remove {record} to take"):
        shop.fetch(version)
    record.write_text(record.read_text().replace('"sha256"', '"sha255"'))
    with pytest.raises(StateError, match=f"{record}: .*remove it"):
        shop.fetch(version)
    record.unlink()
    shop.fetch(version)


def test_what_a_kill_left_is_cleared_by_the_next_fetch(shop: Shop) -> None:
    version = logged(shop.store, str(shop.folder / "expert"), "killed")
    first = shop.fetch(version)
    versions = first.folder.parents[1]
    (versions / ".1.fetched.json.0a.tmp").write_text("half")  # while the record was written
    (versions / ".1.scratch").mkdir()
    shutil.rmtree(first.folder)  # while the old copy was removed
    assert shop.fetch(version) == first
    assert same(tensors(first.folder), tensors(shop.folder / "expert"))
    assert {path.name for path in versions.iterdir()} == {"1", "1.fetched.json", ".lock"}


@pytest.mark.parametrize(
    "text",
    [
        "a: 2001-99-99",
        f"a: {'9' * 5000}",
        "[" * 3000,
        'flavors: {transformers: {source_model_name: "o/n\\e[31m", source_model_revision: "1\\n2"}}',
        "flavors: {transformers: {source_model_name: [a, b], source_model_revision: {}}}",
        "flavors: []",
    ],
)
def test_a_stranger_s_mlmodel_is_read_with_care(shop: Shop, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "MLmodel").write_text(text + "\n")
    version = of_run(shop.store, {"": folder}, "strange")
    for call in (shop.seen, shop.fetch):
        with pytest.raises(ArtefactError, match=r"expected config\.json and safetensors, .* found:? MLmodel"):
            call(version)


def test_paths_that_mlflow_would_take_for_others_count_for_nothing(shop: Shop) -> None:
    version = of_run(shop.store, {"a#b": shop.folder / "expert"}, "odd")
    for call in (shop.seen, shop.fetch):
        with pytest.raises(ArtefactError, match=r"odd/1: expected config\.json and safetensors"):
            call(version)


def test_one_that_psomerge_published_is_not_taken_without_its_manifest(shop: Shop, tmp_path: Path) -> None:
    run = track.start(shop.store, "merges", run_key="a" * 64, name="n")
    model = published(tmp_path)
    model_id = registry.upload(run, model, run_key="a" * 64, name="ours")
    version = registry.register(run, "ours", run_key="a" * 64, model_id=model_id, tags={}, description="")
    if not shop.store.database:
        return
    (shop.files(version) / "MANIFEST.json").unlink()
    with pytest.raises(VerificationError, match=r"models:/ours/1 .* is not what was published: .*no manifest"):
        shop.fetch(version)


def test_a_file_that_comes_short_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from psomerge.tasks.release import delivery

    version = logged(shop.store, str(shop.folder / "expert"), "short")
    whole = delivery.download

    def short(store: Store, uri: str, folder: Path) -> Path:
        path = whole(store, uri, folder)
        if path.name == "model.safetensors":
            path.write_bytes(path.read_bytes()[:-1])
        return path

    monkeypatch.setattr(delivery, "download", short)
    with pytest.raises(ArtefactError, match=r"short/1: model/model\.safetensors: the registry lists \d+ bytes"):
        shop.fetch(version)


def test_such_a_version_is_planned_checked_and_merged_by_its_alias(shop: Shop, tmp_path: Path) -> None:
    version = logged(shop.store, str(shop.folder / "expert"), "merged")
    registry.give_alias(shop.store, version, "best")
    settings = {"MLFLOW_TRACKING_URI": shop.store.tracking_uri}
    base, out = shop.folder / "base", tmp_path / "out"
    arguments = ("merge", "linear", "--base", base, "--expert", "models:/merged@best", "--out", out)
    said = psomerge(*arguments, home=shop.home, settings=settings)
    assert said.code == 0, said.err
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["experts"][0]["source"] == version.uri
    said = psomerge("check", "models:/merged@best", "--base", base, home=shop.home, settings=settings)
    assert said.code == 0, said.err
