"""Versions of a registry as people make them with MLflow's own functions."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psomerge.tasks.release.registry import Version
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store

REQUIREMENTS = ["torch", "transformers"]
"""Named, so that MLflow does not look for packages that a CPU machine lacks."""


def logged(store: Store, model: Any, name: str, **keywords: Any) -> Version:
    """The version that `mlflow.transformers.log_model` makes of a checkpoint folder, a pipeline or its parts."""
    import mlflow

    with connect(store), _run(store):
        info = mlflow.transformers.log_model(
            model,
            name="model",
            task="text-generation",
            registered_model_name=name,
            pip_requirements=REQUIREMENTS,
            **keywords,
        )
        return Version(name, str(info.registered_model_version), {})


def of_run(store: Store, files: Mapping[str, Path], name: str) -> Version:
    """The version that registers a folder among a run's artifacts: folders by the path that they are logged under."""
    import mlflow

    with connect(store) as client, _run(store) as run:
        for path, folder in files.items():
            mlflow.log_artifacts(str(folder), f"files/{path}".rstrip("/"))
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        found = client.create_model_version(name, f"runs:/{run.info.run_id}/files", run.info.run_id)
        return Version(name, str(found.version), {})


def _run(store: Store) -> Any:
    import mlflow

    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    experiment = mlflow.get_experiment_by_name("stock")
    if experiment is None:
        location = store.artifacts.as_uri() if store.artifacts else None
        mlflow.create_experiment("stock", artifact_location=location)
    mlflow.set_experiment("stock")
    return mlflow.start_run()
