"""A whole run with MLFLOW_REGISTRY_URI: the model is in that registry alone, verified and promoted there, and the lines
that are printed lead to it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from runs.small_run import Small, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    small = small_run(tmp_path_factory.mktemp("divided"))
    small.change(register={"model": "main.default.qwen2.5-merge", "experiment": "small tests"})
    return small


def test_a_model_is_registered_promoted_told_and_read_where_the_variable_says(small: Small) -> None:
    from mlflow import MlflowClient

    settings = {"MLFLOW_REGISTRY_URI": "sqlite:///models.db"}  # from the folder where it is started
    result = small.run(**settings)
    done = small.psomerge("run", str(small.config), **settings)  # of the finished run it prints the same again
    assert done.returncode == 0, done.stderr[-3000:]
    registry = f"sqlite:///{small.folder}/models.db"
    assert (result["registry_uri"], result["tracking_uri"]) == (registry, f"sqlite:///{small.home}/mlflow.db")
    here, there = (MlflowClient(uri, uri) for uri in (result["tracking_uri"], registry))
    (model,) = there.search_registered_models()
    assert (model.name, sorted(model.aliases)) == (
        "main.default.qwen2.5-merge",
        sorted({"challenger", result["alias"]}),
    )
    assert there.get_model_version(model.name, result["version"]).tags["verification"] == "passed"
    assert here.search_registered_models() == []

    told = [line.strip() for line in done.stdout.splitlines()]
    (export,) = (line for line in told if line.startswith("export MLFLOW_TRACKING_URI="))
    assert f"MLFLOW_REGISTRY_URI={registry}" in export
    (fetch,) = (line for line in told if "artifacts download" in line)
    shell = subprocess.run(
        ["sh", "-ec", f"{export}\n{fetch}"],
        cwd=small.folder,
        env=small.environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
    )
    assert shell.returncode == 0, shell.stderr[-3000:]
    assert (small.folder / "champion" / "MANIFEST.json").read_bytes() == (
        Path(result["checkpoint"]).parent / "published" / "MANIFEST.json"
    ).read_bytes()

    # The printed page of MLflow, over the stores that were used.
    (page,) = (line.partition("#")[0] for line in told if " ui --backend-store-uri " in line)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = small.environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": f"{sys.prefix}/bin:/usr/bin:/bin"}
    command = ["bash", "-ec", f"exec {page} --port {port}"]
    with subprocess.Popen(command, cwd=small.folder, env=environment, start_new_session=True) as process:
        try:
            ask = f"http://127.0.0.1:{port}/api/2.0/mlflow/registered-models/search"
            end, shown = time.monotonic() + 120, None
            while shown is None:
                assert process.poll() is None
                assert time.monotonic() < end
                with suppress(OSError), urllib.request.urlopen(ask, timeout=10) as answer:
                    shown = json.load(answer)
                time.sleep(0.3)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert [one["name"] for one in shown["registered_models"]] == [model.name]

    found = small.psomerge(
        "evaluate",
        result["model_uri"],
        "--suite",
        "suite.yaml",
        "--set",
        "engine.kind=transformers",
        "--json",
        **settings,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert json.loads(found.stdout)["model"] == result["model_uri"]
