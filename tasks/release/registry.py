"""The model registry: a published folder becomes exactly one version per run key, is fetched again, and bears aliases.

Before each act the store is asked whether it may be done: a run may have been cancelled. What lies in the folder is
`tasks.release.publish`'s matter, whether a version deserves an alias `tasks.release.promote`'s.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psomerge.errors import ConfigError
from psomerge.tasks.tracking.run import MlflowRun, connect, once, start
from psomerge.tasks.tracking.store import MODEL_SCHEME, RUN_KEY, UNITY_CATALOG, Store, check_model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

DESCRIPTION_LIMIT = 5000
"""Characters that MLflow's tables hold; on PostgreSQL a longer text is an error, on SQLite it is not."""
_LOGGED = re.compile(r"[^\w +=,-]")
"""What the name of a logged model, unlike a registered one's, may not hold."""
_ALIAS = re.compile(r"(?!latest$)(?!v\d+$)[a-z0-9_][a-z0-9_\-]{0,99}", re.IGNORECASE)


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    version: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """What `mlflow.transformers.load_model` and `mlflow.artifacts.download_artifacts` take."""
        return f"models:/{self.name}/{self.version}"


def check_alias(alias: str) -> str:
    """Returns `alias`. Raises ConfigError if MLflow reserves it (`latest`, `v1`, ...) or cannot address it."""
    if not _ALIAS.fullmatch(alias):
        raise ConfigError(
            f"alias: expected letters, digits, _ and -, but neither `latest` nor `v` and a number, found {alias!r}; "
            "choose another one"
        )
    return alias


def run_for_files(run: MlflowRun, experiment: str, *, run_key: str, name: str) -> MlflowRun:
    """Returns the run that a version's files must be logged to: `run`, unless another server than the one that keeps it
    has the registry: that takes only files of its own, so a run of the same key there.

    Args:
        run: of the pipeline run.
        experiment: that a run on the registry's server appears in.
        run_key: of the pipeline run.
        name: that a run on the registry's server bears.
    """
    if run.store.models == run.store:
        return run
    tags = {"psomerge.tracked_at": run.store.address, "psomerge.tracked_as": run.run_id}
    copied = start(run.store.models, experiment, run_key=run_key, name=name, tags=tags)
    with connect(run.store.models) as client:
        client.set_terminated(copied.run_id, "FINISHED")
    return copied


def upload(run: MlflowRun, folder: Path, *, run_key: str, name: str) -> str:
    """Returns the id (`m-...`) of the run's logged model, whose artifacts are the files of `folder`; does nothing if
    that was done.

    MLmodel there gets the ids of model and run; every other file is copied as it is.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    with connect(run.store) as client:

        def find() -> str | None:
            found = client.search_logged_models([run.experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'")
            return min(found, key=lambda model: model.creation_timestamp).model_id if found else None

        run.store.may_act()
        tags = {RUN_KEY: run_key}
        model_id = once(
            find,
            lambda: (
                client.create_logged_model(
                    run.experiment_id, _LOGGED.sub("-", name), run.run_id, tags, model_type="merged"
                ).model_id
            ),
        )
        logged = client.get_logged_model(model_id)
        if logged.status == LoggedModelStatus.READY:
            return model_id
        model = Model.load(str(folder))
        model.model_id, model.model_uuid, model.run_id, model.artifact_path = (
            model_id,
            model_id,
            run.run_id,
            logged.artifact_location,
        )
        model.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        model.save(str(folder / "MLmodel"))
        client.log_model_artifacts(model_id, str(folder))

        def named() -> bool | None:
            outputs = client.get_run(run.run_id).outputs
            return any(one.model_id == model_id for one in (outputs.model_outputs if outputs else ())) or None

        # MLflow refuses to have it said twice, as after a lost answer or a process that ended right here.
        once(named, lambda: client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)]) is None)
        client.finalize_logged_model(model_id, LoggedModelStatus.READY)
        return model_id


def register(
    run: MlflowRun, name: str, *, run_key: str, model_id: str, tags: Mapping[str, str], description: str
) -> Version:
    """Returns the one version of `run_key`, creating registered model and version where they are missing. It gets no
    alias.

    The run key goes into the creation call, in whose transaction MLflow writes tags too: whatever happens to the
    response, the next look finds the version. Should a server have finished a call that had been given up, its younger
    versions are deleted again.
    """
    check_model_name(name, run.store.registry_uri)
    with connect(run.store) as client:
        run.store.may_act()
        once(lambda: _registered(client, name), lambda: client.create_registered_model(name))

        def create() -> str:
            every = {RUN_KEY: run_key} | dict(tags)
            text = description[:DESCRIPTION_LIMIT]
            run.store.may_act()
            return client.create_model_version(
                name, f"{MODEL_SCHEME}{model_id}", run.run_id, every, description=text, model_id=model_id
            ).version

        once(lambda: next(iter(_versions(client, run.store, name, run_key)), None), create)
        first, *surplus = _versions(client, run.store, name, run_key)
        for version in surplus:
            client.delete_model_version(name, version)
        # What MLflow's own register_model leaves for its pages: from the logged model to its version.
        client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps([{"name": name, "version": first}])})
        return _version(client, name, first)


def _registered(client: "MlflowClient", name: str) -> "RegisteredModel | None":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return None
        raise


def _versions(client: "MlflowClient", store: Store, name: str, run_key: str) -> list[str]:
    if store.registry_uri.startswith(UNITY_CATALOG):  # it searches by name alone
        every = [str(one.version) for one in client.search_model_versions(f"name = '{name}'")]
        found = [one for one in every if client.get_model_version(name, one).tags.get(RUN_KEY) == run_key]
    else:
        search = f"name = '{name}' AND tags.`{RUN_KEY}` = '{run_key}'"
        found = [str(one.version) for one in client.search_model_versions(search)]
    return sorted(found, key=int)


def _version(client: "MlflowClient", name: str, version: str) -> Version:
    found = client.get_model_version(name, version)
    return Version(name, str(found.version), dict(found.tags), tuple(sorted(found.aliases)))


def find(store: Store, name: str, *, run_key: str) -> Version | None:
    """Returns the version that was registered for `run_key`, if any."""
    with connect(store) as client:
        found = _versions(client, store, check_model_name(name), run_key)
        return _version(client, name, found[0]) if found else None


def bearer(store: Store, name: str, alias: str) -> Version | None:
    """Returns the version that bears `alias`, or None, also if there is no such model."""
    with connect(store) as client:
        model = _registered(client, check_model_name(name))
        number = model.aliases.get(check_alias(alias)) if model else None
        return None if number is None else _version(client, name, str(number))


def give_alias(store: Store, version: Version, alias: str) -> None:
    """Moves `alias` to the version; the last writer wins."""
    with connect(store) as client:
        store.may_act()
        client.set_registered_model_alias(version.name, check_alias(alias), version.version)


def withdraw(store: Store, version: Version) -> None:
    """Takes every alias from the version."""
    with connect(store) as client:
        store.may_act()
        for alias in _version(client, version.name, version.version).aliases:
            client.delete_registered_model_alias(version.name, alias)


def tag(store: Store, version: Version, tags: Mapping[str, str]) -> None:
    """Sets tags of the version."""
    with connect(store) as client:
        store.may_act()
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)


def download(store: Store, uri: str, folder: Path) -> Path:
    """Copies the files of a model (`models:/NAME/VERSION`, `models:/NAME@ALIAS`) into the existing `folder` and returns
    where they are.

    MLflow reports neither missing nor damaged files: check the manifest afterwards.
    """
    from mlflow.artifacts import download_artifacts

    with connect(store.models):
        return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=store.models.tracking_uri))
