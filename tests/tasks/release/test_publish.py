"""The published folder: what is in it, what never gets in, and that every change of it is seen."""

import json
import shutil

import pytest
import yaml

from doubles.local_mlflow import published
from made.models import tiny_llama
from psomerge import recipe as recipes
from psomerge.checkpoint.pins import digest_file, pin
from psomerge.errors import ArtefactError
from psomerge.evals.significance.intervals import Interval
from psomerge.recipe import Recipe
from psomerge.tasks.release import publish
from psomerge.tasks.release.card import front_matter, model_card
from psomerge.tasks.report.summary import Row

pytestmark = pytest.mark.heavy

WHOLE = {
    "MANIFEST.json",
    "MLmodel",
    "README.md",
    "components/tokenizer/tokenizer.json",
    "components/tokenizer/tokenizer_config.json",
    "conda.yaml",
    "model/config.json",
    "model/generation_config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "python_env.yaml",
    "recipe.json",
    "requirements.txt",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return published(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copy(model, tmp_path):
    return shutil.copytree(model, tmp_path / "copy")


def listed(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_exactly_what_is_needed_and_fits_its_manifest(model):
    assert listed(model) == WHOLE
    assert publish.misfits(model) == []
    assert set(json.loads((model / "MANIFEST.json").read_text())["files"]) == WHOLE - {"MANIFEST.json", "MLmodel"}
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in model.rglob("*"))
    assert listed(model.parent) - {f"published/{name}" for name in WHOLE} == {
        f"checkpoint/{path.name}" for path in (model.parent / "checkpoint").iterdir()
    }


def test_weights_and_tokenizer_are_the_checkpoints_byte_for_byte(model):
    checkpoint = model.parent / "checkpoint"
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (model / "model" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert (model / "components/tokenizer/tokenizer_config.json").read_bytes() == (
        checkpoint / "tokenizer_config.json"
    ).read_bytes()
    assert (model / "model/model.safetensors").samefile(checkpoint / "model.safetensors")


@pytest.mark.parametrize(
    ("said", "sampled"),
    [
        (None, False),
        ({}, False),
        ({"temperature": 5.0, "eos_token_id": 0}, False),
        ({"do_sample": True, "temperature": 5.0}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_pipeline_samples_only_where_the_checkpoint_says_so(tmp_path, said, sampled):
    from transformers import pipeline

    checkpoint = tiny_llama(tmp_path / "checkpoint")
    generation = checkpoint / "generation_config.json"
    generation.unlink() if said is None else generation.write_text(json.dumps(said))
    recipe = Recipe(base=pin(checkpoint, "base", str(checkpoint)), experts=())
    folder = publish.lay_out(checkpoint, tmp_path / "published", recipe=recipe, card="# a card\n")
    assert publish.misfits(folder) == []
    kept = json.loads((folder / "model" / "generation_config.json").read_text())
    assert kept == {"do_sample": False} | (said or {})
    generate = pipeline("text-generation", model=str(folder / "model"))
    texts = {generate("Hello", max_new_tokens=12)[0]["generated_text"] for _ in range(4)}
    assert (len(texts) > 1) == sampled


def test_nothing_in_it_names_a_folder_of_this_machine(model):
    for path in model.rglob("*"):
        # The recipe pins sources as the user gave them.
        if path.is_file() and path.name != "recipe.json":
            assert str(model.parent).encode() not in path.read_bytes()


def test_files_outside_the_allow_list_stay_behind(tmp_path):
    checkpoint = tiny_llama(tmp_path / "checkpoint")
    for name in ("pytorch_model.bin", "modeling_evil.py", "optimizer.pkl", ".hidden"):
        (checkpoint / name).write_bytes(b"x")
    recipe = Recipe(base=pin(checkpoint, "base", "b"), experts=())
    assert listed(publish.lay_out(checkpoint, tmp_path / "published", recipe=recipe, card="c")) == WHOLE


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_checkpoint_that_wants_remote_code_is_refused_and_leaves_nothing(tmp_path, name):
    checkpoint = tiny_llama(tmp_path / "checkpoint")
    recipe = Recipe(base=pin(checkpoint, "base", "b"), experts=())
    content = json.loads((checkpoint / name).read_text()) | {"auto_map": {"AutoModel": "modeling_evil.Evil"}}
    (checkpoint / name).write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="auto_map asks for remote code"):
        publish.lay_out(checkpoint, tmp_path / "published", recipe=recipe, card="c")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_laying_out_again_keeps_the_folder_and_refuses_another_recipe_or_a_damaged_one(copy, model):
    checkpoint, recipe = model.parent / "checkpoint", recipes.read(model / "recipe.json")
    before = (copy / "MANIFEST.json").stat().st_mtime_ns
    assert publish.lay_out(checkpoint, copy, recipe=recipe, card="another") == copy
    assert (copy / "MANIFEST.json").stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match="another recipe"):
        publish.lay_out(checkpoint, copy, recipe=Recipe(base=recipe.base, experts=(), mask_seed=1), card="c")
    (copy / "README.md").unlink()
    with pytest.raises(ArtefactError, match=r"README\.md: in the manifest but not there"):
        publish.lay_out(checkpoint, copy, recipe=recipe, card="c")


def test_every_single_missing_file_is_seen(copy):
    for name in sorted(WHOLE):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        assert len(publish.misfits(copy)) == 1, name
        (copy / name).write_bytes(content)
    assert publish.misfits(copy) == []


def test_every_changed_byte_of_a_listed_file_is_seen(copy):
    for name in sorted(WHOLE - {"MLmodel", "MANIFEST.json"}):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        (problem,) = publish.misfits(copy)
        assert problem.startswith(f"{name}: expected SHA-256")
        (copy / name).write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "model/evil.py",
        "model/pytorch_model.bin",
        "extra.txt",
        "components/other/tokenizer.json",
        "model/deep/config.json",
        "model/MANIFEST.json",
    ],
)
def test_an_extra_file_is_seen_and_one_that_is_never_published_even_in_a_forged_manifest(copy, name):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"x")
    assert publish.misfits(copy) == [f"{name}: there but not in the manifest"]
    manifest = json.loads((copy / "MANIFEST.json").read_text())
    manifest["files"][name] = digest_file(copy / name)
    (copy / "MANIFEST.json").write_text(json.dumps(manifest))
    assert publish.misfits(copy) == [f"{name}: a file of this name is never published"]


def test_a_link_in_place_of_a_file_is_seen(copy):
    (copy / "model/config.json").rename(copy.parent / "config.json")
    (copy / "model/config.json").symlink_to(copy.parent / "config.json")
    assert publish.misfits(copy) == ["model/config.json: expected a regular file"]


def test_a_changed_loader_in_mlmodel_is_seen_and_mlflows_own_ids_are_not(copy):
    text = (copy / "MLmodel").read_text()
    (copy / "MLmodel").write_text(text.replace("model_id: null", "model_id: m-1"))
    (copy / "registered_model_meta").write_text("model_name: a\n")
    assert publish.misfits(copy) == []
    (copy / "MLmodel").write_text(text.replace("loader_module: mlflow.transformers", "loader_module: evil"))
    assert publish.misfits(copy) == ["MLmodel: its flavors differ from the manifest's"]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 1}', b'{"format": 2, "files": {}, "flavors": {}}', b'{"files": 3}', b"\xff"]
)
def test_a_damaged_manifest_is_one_line_and_no_crash(copy, content):
    (copy / "MANIFEST.json").write_bytes(content)
    assert len(publish.misfits(copy)) == 1


def test_the_card_names_sources_coefficients_results_and_how_to_load(model):
    recipe = recipes.read(model / "recipe.json")
    recipe = Recipe(base=recipe.base, experts=(recipe.base,), coefficients=((0.1 + 0.2,),))
    rows = [
        Row("base", "base", Interval(0.25, 0.2, 0.3, 40), {"weekdays": Interval(0.25, 0.2, 0.3, 40)}),
        Row("merged", "search"),
    ]
    text = model_card(recipe, rows, name="merged", facts=[("suite", "cldr")])
    assert "| base | 0.250 [0.200, 0.300] n=40 | 0.250 [0.200, 0.300] n=40 |" in text
    assert "| merged | – | – |" in text
    assert "- 0.30000000000000004" in text
    assert recipe.base.revision in text
    assert recipe.digest() in text
    assert 'load_model("models:/merged@champion")' in text
    assert "- suite: cldr" in text


def test_the_card_s_front_matter_is_yaml_that_the_hub_reads() -> None:
    top, body = front_matter().split("---\n")[1:]
    assert yaml.safe_load(top) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "psomerge"],
    }
    assert not body.strip()
