"""The flow against real servers on PostgreSQL, as docker-compose.yml runs them; and against servers that are not
there."""

import json
import socket
import urllib.request
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from doubles.services_fixture import ServiceSet, service_set
from psomerge.tasks.tracking.run import connect
from psomerge.tasks.tracking.store import Store
from runs.small_run import Small, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
__all__ = ["service_set"]


def post(address: str, content: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small_run(tmp_path_factory.mktemp("servers"))


def test_a_run_appears_on_both_servers_and_its_model_in_the_registry(service_set: ServiceSet, small: Small) -> None:
    result = small.run(MLFLOW_TRACKING_URI=service_set.mlflow, PREFECT_API_URL=service_set.prefect)
    assert result["tracking_uri"] == service_set.mlflow
    (flow_run,) = post(service_set.prefect + "/flow_runs/filter", {"flows": {"name": {"any_": ["psomerge merge"]}}})
    assert flow_run["state_name"] == "Completed"
    tasks = post(service_set.prefect + "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run["id"]]}}})
    assert {"check", "star step 1: judge", "star step 2: observe", "write", "register", "verify", "report"} <= {
        one["name"] for one in tasks
    }
    assert {one["state_name"] for one in tasks} == {"Completed"}
    with connect(Store(service_set.mlflow)) as client:
        (version,) = client.search_model_versions("name = 'small-model'")
        assert version.tags["psomerge.run_key"] == result["run"]
        assert version.tags["verification"] == "passed"
        assert str(client.get_model_version_by_alias("small-model", result["alias"]).version) == result["version"]
        (run,) = client.search_runs([client.get_experiment_by_name("small tests").experiment_id])
        assert run.info.status == "FINISHED"
        assert {"fitness/best", "language/so"} <= set(run.data.metrics)
    # Nothing of Prefect and MLflow is kept here beside what the servers keep.
    assert not (small.home / "mlflow.db").exists()
    assert not (small.home / "prefect" / "prefect.db").exists()
    assert list((small.home / "artifacts").iterdir()) == []


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_server_that_is_not_there_is_told_within_a_minute(small: Small, name: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        begin = monotonic()
        settings = {
            name: address + ("/api" if name == "PREFECT_API_URL" else ""),
            "PSOMERGE_HOME": str(tmp_path / "home"),
        }
        done = small.psomerge("run", str(small.config), "--json", **settings)
    assert monotonic() - begin < 60
    assert (done.returncode, done.stdout) == (4, ""), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    line = done.stderr.rstrip().splitlines()[-1]
    assert line.startswith("psomerge: ")
    assert address in line
    assert name in line
