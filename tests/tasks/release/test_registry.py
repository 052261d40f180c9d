"""Exactly one version per run key, whatever happens to the answers of the server; names and aliases that can be
addressed."""

import pytest

from doubles.local_mlflow import local_store, lossy_proxy, published, server
from psomerge.errors import ConfigError, ServiceError, SpaceError
from psomerge.tasks.release import registry
from psomerge.tasks.sources.fetch import fetch
from psomerge.tasks.tracking import run as track
from psomerge.tasks.tracking.store import Store

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
KEY = "a" * 64
CREATE = "/api/2.0/mlflow/model-versions/create"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return published(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with server(tmp_path_factory.mktemp("server")) as address:
        yield address


def register(store, model, *, name="merged", key=KEY):
    run = track.start(store, "merges", run_key=key, name="n")
    model_id = registry.upload(run, model, run_key=key, name=name)
    return registry.register(run, name, run_key=key, model_id=model_id, tags={"fitness": "0.5"}, description="a card")


def versions(store, name):
    with track.connect(store) as client:
        return sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))


def test_registering_twice_gives_one_version_with_tags_card_and_run(tmp_path, model):
    store = local_store(tmp_path)
    first, again = register(store, model), register(store, model)
    assert first == again
    assert first.tags == {"psomerge.run_key": KEY, "fitness": "0.5"}
    assert first.aliases == ()
    with track.connect(store) as client:
        found = client.get_model_version("merged", "1")
        run = client.get_run(found.run_id)
        assert (found.description, found.status, run.data.tags["psomerge.run_key"]) == ("a card", "READY", KEY)
        assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert register(store, model, key="b" * 64).version == "2"


def test_the_version_shows_a_signature_and_its_own_id(tmp_path, model):
    from mlflow.models import get_model_info

    store = local_store(tmp_path)
    uri = register(store, model).uri
    with track.connect(store) as client:
        info = get_model_info(uri)
        assert info.signature.inputs.input_types()[0].name == "string"
        assert client.get_model_version("merged", "1").source == f"models:/{info.model_id}"
        assert (
            client.get_logged_model(info.model_id).tags["mlflow.modelVersions"]
            == '[{"name": "merged", "version": "1"}]'
        )
        assert info.flavors["transformers"]["source_model_name"].startswith("psomerge recipe ")


@pytest.mark.parametrize("fault", ["response", "request", "late"])
@pytest.mark.parametrize(
    "path",
    [
        CREATE,
        "/api/2.0/mlflow/registered-models/create",
        "/api/2.0/mlflow/logged-models",
        "/api/2.0/mlflow/runs/create",
        "/api/2.0/mlflow/runs/outputs",
    ],
)
def test_a_lost_answer_still_gives_exactly_one_version(address, model, path, fault):
    key = f"{fault}-{path.rpartition('mlflow/')[2].replace('/', '-')}"
    name = f"one{key}"
    with lossy_proxy(
        address, lambda method, asked, before: fault if (method, asked, before) == ("POST", path, 0) else "pass"
    ) as proxy:
        store = Store(proxy)
        version = register(store, model, name=name, key=key)
        assert versions(store, name) == [int(version.version)]
        with track.connect(store) as client:
            run = client.get_run(client.get_model_version(name, version.version).run_id)
            assert len(client.search_runs([run.info.experiment_id], f"tags.`psomerge.run_key` = '{key}'")) == 1


def test_a_server_that_never_answers_the_creation_is_told_and_a_later_try_finds_the_version(address, model):
    with lossy_proxy(address, lambda method, asked, before: "response" if asked == CREATE else "pass") as proxy:
        assert register(Store(proxy), model, name="deaf", key="deaf").version == "1"
    with (
        lossy_proxy(address, lambda method, asked, before: "request" if asked == CREATE else "pass") as proxy,
        pytest.raises(ServiceError, match=r"127\.0\.0\.1"),
    ):
        register(Store(proxy), model, name="mute", key="mute")
    assert versions(Store(address), "mute") == []
    assert register(Store(address), model, name="mute", key="mute").version == "1"


def test_an_upload_that_ended_after_the_run_named_its_model_goes_on(tmp_path, model, monkeypatch):
    from mlflow import MlflowClient

    def full(*_):
        raise OSError(28, "No space left on device")

    store = local_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", full)
        with pytest.raises(SpaceError):
            register(store, model)
    assert register(store, model).version == "1"
    with track.connect(store) as client:
        run = client.get_run(client.get_model_version("merged", "1").run_id)
        (output,) = run.outputs.model_outputs
        assert client.get_logged_model(output.model_id).status == "READY"


def test_a_version_that_a_given_up_call_made_after_all_is_deleted_again(tmp_path, model):
    store = local_store(tmp_path)
    first = register(store, model)
    with track.connect(store) as client:
        client.create_model_version(
            "merged", client.get_model_version("merged", "1").source, tags={"psomerge.run_key": KEY}
        )
    assert versions(store, "merged") == [1, 2]
    assert register(store, model) == first
    assert versions(store, "merged") == [1]


def test_an_alias_moves_and_is_withdrawn(tmp_path, model):
    store = local_store(tmp_path)
    one, two = register(store, model), register(store, model, key="b" * 64)
    assert registry.bearer(store, "merged", "champion") is None
    assert registry.bearer(store, "unknown", "champion") is None
    for version in (one, two):
        registry.give_alias(store, version, "champion")
        assert registry.bearer(store, "merged", "champion").version == version.version
    registry.tag(store, two, {"verification": "failed"})
    registry.withdraw(store, two)
    assert registry.bearer(store, "merged", "champion") is None
    assert registry.find(store, "merged", run_key="b" * 64).tags["verification"] == "failed"
    assert registry.find(store, "merged", run_key="c" * 64) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "a:b",
        "a@b",
        "a?b",
        "a#b",
        "a%20b",
        "line\nbreak",
        "<b>",
        "..",
        ".a",
        " a",
        "a ",
        "x" * 201,
        "ж" * 101,
        "it's",
    ],
)
def test_model_names_that_cannot_be_addressed_are_refused(name):
    with pytest.raises(ConfigError, match="rename it"):
        registry.check_model_name(name)


@pytest.mark.parametrize(
    "name", ["qwen2.5-merge", "main.default.merge", "a merge", "a+b=c,d", "модель", "a..b", "x" * 200, "1"]
)
def test_every_other_name_is_registered_found_and_addressed(tmp_path, model, name):
    store = local_store(tmp_path)
    version = register(store, model, name=name)
    assert registry.find(store, name, run_key=KEY) == version
    registry.give_alias(store, version, "champion")
    assert registry.bearer(store, name, "champion").version == "1"
    for address in (version.uri, f"models:/{name}@champion"):
        fetched = fetch(address, tmp_path / "home", lambda what, share: None, store=lambda: store)
        assert fetched.source == version.uri
        assert (fetched.folder / "config.json").is_file()


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "v1", "V12", "a.b", "a b", "a\n"])
def test_aliases_that_mlflow_reserves_or_cannot_store_are_refused(alias):
    with pytest.raises(ConfigError, match="choose another"):
        registry.check_alias(alias)


def test_names_that_only_look_like_reserved_ones_are_allowed():
    assert [registry.check_alias(alias) for alias in ("champion", "latest2", "v1a", "version1")] == [
        "champion",
        "latest2",
        "v1a",
        "version1",
    ]
