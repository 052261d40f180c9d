"""Cancelled on Prefect's page: the run sees it, does nothing more to the registry, ends Cancelled, and goes on by the
same command."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from psomerge.tasks.services.servers import start_prefect, stop
from runs.small_run import Small, small_run
from runs.watched_run import MOMENTS, STEPS, Moment, Running, lines, of_this_run, survivors, there, versions

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow"),
]
SERVED = """
import sys
from psomerge.flows.merge import merge
merge.serve(name="small", parameters={"config": sys.argv[1], "overrides": []}, pause_on_shutdown=False)
"""


def post(address: str, content: dict[str, Any]) -> Any:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def flow_run(api: str, *states: str) -> dict[str, Any]:
    """The newest one, once it is in one of these states."""
    end = time.monotonic() + 120
    while True:
        found = post(f"{api}/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
        if found and found[0]["state_type"] in states:
            return found[0]
        assert time.monotonic() < end, found
        time.sleep(0.3)


def cancel(api: str) -> str:
    """Does what the button on the page does; returns the flow run's id."""
    identity = flow_run(api, "RUNNING")["id"]
    state = {"type": "CANCELLING", "name": "Cancelling", "message": "Cancelled from the UI"}
    assert post(f"{api}/flow_runs/{identity}/set_state", {"state": state})["status"] == "ACCEPT"
    return identity


def state_of(api: str, identity: str) -> str:
    with urllib.request.urlopen(f"{api}/flow_runs/{identity}", timeout=30) as answer:
        return json.load(answer)["state_type"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Small, str]]:
    """A small run and the address of its home's own Prefect server."""
    small = small_run(tmp_path_factory.mktemp("cancelling"), swarm=STEPS)
    api = start_prefect(small.home).api
    try:
        yield small, api
    finally:
        stop(small.home, "prefect")


@pytest.mark.parametrize(
    "moment",
    [
        MOMENTS[1],
        MOMENTS[2],
        Moment("before it is registered", lambda folder, said: there(folder, "checkpoint")),
        MOMENTS[6],
    ],
    ids=lambda moment: moment.name,
)
def test_a_run_of_the_command_line_ends_cancelled_and_goes_on_by_the_same_command(
    served: tuple[Small, str], moment: Moment
) -> None:
    small, api = served
    seed = str(zlib.crc32(moment.name.encode()))  # a run of its own for each moment
    running = Running(small, "--set", f"seed={seed}")
    known = set(small.runs)
    end = time.monotonic() + 240
    own: list[Path] = []
    while not moment.reached(own[0] if own else None, running.said):
        own = [path for path in small.runs if path not in known]
        assert running.process.poll() is None, running.said[-3000:]
        assert time.monotonic() < end, running.said[-3000:]
        time.sleep(0.01)
    identity, before = cancel(api), versions(small) if (small.home / "mlflow.db").exists() else []
    code, out, said = running.ended(120)
    assert (code, out) == (130, ""), said[-3000:]
    assert said.rstrip().splitlines()[-1] == (
        "psomerge: cancelled on Prefect's page; the same command goes on from here"
    )
    assert "Traceback" not in said
    assert state_of(api, identity) == "CANCELLED"
    assert survivors(of_this_run_but_servers(small)) == []
    if moment.name != "while it is verified":
        assert (versions(small) if (small.home / "mlflow.db").exists() else []) == before
    assert not (small.runs and [run for run in small.runs if run not in known and (run / "result.json").exists()])
    made = sum(lines(run) for run in small.runs if run not in known)
    result = small.run("--set", f"seed={seed}")
    assert result["alias"] in ("challenger", "champion")
    assert lines(small.home / "runs" / result["run"]) >= made
    assert flow_run(api, "COMPLETED")["id"] != identity


def of_this_run_but_servers(small: Small) -> list[Any]:
    return [one for one in of_this_run(small) if "PSOMERGE_SERVER" not in one.environ()]


def test_a_run_of_a_deployment_is_ended_and_goes_on_by_the_command_line(served: tuple[Small, str]) -> None:
    small, api = served
    small.change(seed=77)
    known = set(small.runs)
    log = small.folder / "served.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVED, str(small.config)],
            cwd=small.folder,
            env=small.environment | {"PREFECT_API_URL": api, "PREFECT_HOME": str(small.folder / "client")},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 240
        while not (found := post(f"{api}/deployments/filter", {})):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end
            time.sleep(0.3)
        post(f"{api}/deployments/{found[0]['id']}/create_flow_run", {})
        while not [run for run in small.runs if run not in known and lines(run) >= 2]:
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.05)
        identity, before = cancel(api), versions(small)
        while (state := state_of(api, identity)) not in ("CANCELLED", "CRASHED", "FAILED", "COMPLETED"):
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.3)
        assert state == "CANCELLED", log.read_text()[-3000:]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert versions(small) == before
    (own,) = (run for run in small.runs if run not in known)
    made = lines(own)
    result = small.run()
    assert result["run"] == own.name
    assert lines(own) > made
