"""Prefect and MLflow servers, real ones: over a home folder's own stores, and the set of docker-compose.yml on
PostgreSQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest

from doubles.services_fixture import ServiceSet, service_set
from places import ROOT
from psomerge.errors import ServiceError
from psomerge.tasks.services.servers import Server, running, serving, start_mlflow, start_prefect, stop
from psomerge.tasks.sources.registry.copy import folder_of

pytestmark = pytest.mark.heavy

__all__ = ["service_set"]

# A user's process, without settings of the process that runs the tests: Prefect and MLflow read theirs at import.
FLOW = """
from prefect import flow
@flow(name="a visible flow")
def visible():
    return 7
assert visible() == 7
"""
# As Prefect's own pages tell to put a flow on a schedule.
SCHEDULED = """
from prefect import flow
@flow(name="a scheduled flow")
def scheduled():
    return 7
if __name__ == "__main__":
    scheduled.serve(name="every minute", cron="* * * * *")
"""
TRACK = """
import sys
import mlflow
mlflow.set_experiment("an experiment")
with mlflow.start_run(run_name=sys.argv[1]) as run:
    mlflow.log_metric("fitness", 0.625)
    mlflow.log_text("a text of the run", "note.txt")
assert mlflow.artifacts.load_text(run.info.artifact_uri + "/note.txt") == "a text of the run"
print(run.info.run_id)
"""


def run_python(code: str, *arguments: str, cwd: Path, **settings: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    quiet = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_HOME": str(cwd / "client"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=inherited | quiet | settings,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def post(address: str, body: dict) -> list:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def starts_by_schedule(api: str, log: Path, folder: Path) -> None:
    """Asserts that the server starts a run of a cron deployment, that the run ends, and that none of the server's own
    loops has died."""
    (folder / "scheduled.py").write_text(SCHEDULED)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    settings = inherited | {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "client")}
    asked = {"flows": {"name": {"any_": ["a scheduled flow"]}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 1}
    said = folder / "served.log"
    with said.open("wb") as file:
        serving = subprocess.Popen(
            [sys.executable, "scheduled.py"], cwd=folder, env=settings, stdout=file, stderr=file, start_new_session=True
        )
    try:
        end = time.monotonic() + 240  # a minute at most to the next one, and two processes that start
        while not (runs := post(api + "/flow_runs/filter", asked)) or runs[0]["state_type"] != "COMPLETED":
            assert serving.poll() is None, said.read_text()[-3000:]
            assert time.monotonic() < end, f"{runs}\n{log.read_text()[-3000:]}\n{said.read_text()[-3000:]}"
            time.sleep(0.5)
        assert runs[0]["auto_scheduled"]
    finally:
        serving.send_signal(signal.SIGINT)  # it takes its schedule from the server
        serving.wait(60)
    complaints = [line for line in log.read_text().splitlines() if "Traceback" in line or "ERROR" in line.upper()]
    assert complaints == []


def family(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def listening(pid: int) -> set[tuple[str, int]]:
    """Addresses on which the process or one of its children accepts connections."""
    found = [connection for process in family(pid) for connection in process.net_connections(kind="all")]
    return {tuple(connection.laddr) for connection in found if connection.status == psutil.CONN_LISTEN}


def gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("services") / "a home"  # a blank must not end up in an address


@pytest.fixture(scope="module")
def servers(home: Path) -> Iterator[dict[str, Server]]:
    """Both servers of one home; afterwards every process of them must be gone."""
    with serving(home) as started:
        members = [process for server in started.values() for process in family(server.pid)]
        yield started
    assert gone(members)
    assert running(home) == {}


def test_a_home_s_servers_listen_on_loopback_alone(servers: dict[str, Server]) -> None:
    assert listening(servers["prefect"].pid) == {("127.0.0.1", servers["prefect"].port)}
    assert listening(servers["mlflow"].pid) == {("127.0.0.1", servers["mlflow"].port)}


def test_a_second_start_finds_the_running_servers(home: Path, servers: dict[str, Server]) -> None:
    assert running(home) == servers
    assert start_prefect(home) == servers["prefect"]
    assert start_mlflow(home) == servers["mlflow"]
    # By its address it is this home's registry, whose copies lie there already.
    assert folder_of(home, servers["mlflow"].api) == folder_of(home, None)
    assert folder_of(home, f"{servers['mlflow'].api}0") != folder_of(home, None)
    with serving(home) as again:
        assert again == servers
    assert running(home) == servers  # the inner block started none, so it ended none


def test_a_flow_run_is_on_the_home_s_prefect_server(home: Path, servers: dict[str, Server], tmp_path: Path) -> None:
    run_python(FLOW, cwd=tmp_path, PREFECT_API_URL=servers["prefect"].api)
    runs = post(servers["prefect"].api + "/flow_runs/filter", {"flows": {"name": {"any_": ["a visible flow"]}}})
    assert [run["state_name"] for run in runs] == ["Completed"]
    assert (home / "prefect" / "prefect.db").exists()


def test_a_schedule_fires_on_the_home_s_prefect_server(home: Path, servers: dict[str, Server], tmp_path: Path) -> None:
    starts_by_schedule(servers["prefect"].api, home / "servers" / "prefect.log", tmp_path)


def test_the_prefect_page_asks_its_own_server_for_data(servers: dict[str, Server]) -> None:
    # Prefect's default is port 4200, whatever port the server has: then the page stays empty.
    with urllib.request.urlopen(servers["prefect"].page + "/ui-settings", timeout=30) as answer:
        assert json.load(answer)["api_url"] == servers["prefect"].api


def test_mlflow_files_lie_in_the_home_and_are_served(home: Path, servers: dict[str, Server], tmp_path: Path) -> None:
    number = run_python(TRACK, "first", cwd=tmp_path, MLFLOW_TRACKING_URI=servers["mlflow"].api).split()[-1]
    files = [path for path in (home / "artifacts").rglob("note.txt") if number in path.parts]
    assert [path.read_text() for path in files] == ["a text of the run"]
    with urllib.request.urlopen(
        f"{servers['mlflow'].page}/get-artifact?run_id={number}&path=note.txt", timeout=30
    ) as answer:
        assert answer.read() == b"a text of the run"
    assert not (tmp_path / "mlruns").exists()


def test_logs_and_prefect_s_files_are_private(home: Path, servers: dict[str, Server]) -> None:
    assert {name: (home / name).stat().st_mode & 0o777 for name in ("prefect", "servers")} == {
        "prefect": 0o700,
        "servers": 0o700,
    }


def test_a_server_whose_starter_ended_is_found_and_stopped_by_another_process(tmp_path: Path) -> None:
    start = (
        "import sys; from pathlib import Path; from psomerge.tasks.services.servers import start_mlflow; "
        "start_mlflow(Path(sys.argv[1]))"
    )
    run_python(start, str(tmp_path), cwd=ROOT)
    server = running(tmp_path)["mlflow"]
    members = family(server.pid)
    assert len(members) == 2  # the command and the web server that it started
    stop(tmp_path, "mlflow")
    assert gone(members)
    assert running(tmp_path) == {}


def test_what_a_killed_server_left_is_cleaned_by_the_next_start(tmp_path: Path) -> None:
    first = start_mlflow(tmp_path)
    members = family(first.pid)
    os.kill(first.pid, signal.SIGKILL)  # its web server lives on, without the command that would stop it
    end = time.monotonic() + 10
    while "mlflow" in running(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert running(tmp_path) == {}
    second = start_mlflow(tmp_path)
    try:
        assert second.pid != first.pid
        assert gone(members)
    finally:
        stop(tmp_path, "mlflow")


@pytest.mark.parametrize(
    "content",
    ['{"name": "prefect", "po', '{"name": "prefect", "port": 1, "health": "/", "pid": 1, "started": 5.0}', "[]"],
)
def test_a_record_that_is_cut_short_or_another_s_process_counts_for_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "prefect.json").write_text(content)
    assert running(tmp_path) == {}
    stop(tmp_path, "prefect")  # must not touch process 1, which the record names
    assert list((tmp_path / "servers").glob("*.json")) == []
    assert psutil.pid_exists(1)


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=f"the prefect server needs port {port} on 127.0.0.1, found it taken"):
            start_prefect(tmp_path, port)
    assert running(tmp_path) == {}


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database\n" * 100)
    with pytest.raises(ServiceError, match=r"the mlflow server .* ended .* not a database .*mlflow\.log"):
        start_mlflow(tmp_path)
    assert not (tmp_path / "servers" / "mlflow.json").exists()


def test_a_server_that_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"did not answer within 0\.3 s"):
        start_prefect(tmp_path, deadline_s=0.3)
    assert [
        process for process in psutil.process_iter(["cmdline", "cwd"]) if process.info["cwd"] == str(tmp_path)
    ] == []


def test_the_compose_services_listen_on_loopback_alone(service_set: ServiceSet) -> None:
    addresses = {name: listening(pid) for name, pid in service_set.pids.items()}
    assert set(addresses) == {"postgres", "prefect", "mlflow"}
    assert all(len(found) == 1 for found in addresses.values()), addresses
    assert {address for found in addresses.values() for address, _ in found} == {"127.0.0.1"}


def test_a_flow_run_is_stored_in_postgresql(service_set: ServiceSet, tmp_path: Path) -> None:
    run_python(FLOW, cwd=tmp_path, PREFECT_API_URL=service_set.prefect)
    runs = post(service_set.prefect + "/flow_runs/filter", {"flows": {"name": {"any_": ["a visible flow"]}}})
    assert [run["state_name"] for run in runs] == ["Completed"]
    with psycopg2.connect(service_set.postgres + "/prefect") as connection, connection.cursor() as cursor:
        cursor.execute("select id::text, state_type::text from flow_run")
        assert cursor.fetchall() == [(runs[0]["id"], "COMPLETED")]


def test_a_schedule_fires_on_the_compose_prefect_server(service_set: ServiceSet, tmp_path: Path) -> None:
    starts_by_schedule(service_set.prefect, service_set.folder / "prefect.log", tmp_path)


def test_an_mlflow_run_is_stored_in_postgresql_and_its_files_by_the_server(
    service_set: ServiceSet, tmp_path: Path
) -> None:
    number = run_python(TRACK, "on PostgreSQL", cwd=tmp_path, MLFLOW_TRACKING_URI=service_set.mlflow).split()[-1]
    with psycopg2.connect(service_set.postgres + "/mlflow") as connection, connection.cursor() as cursor:
        cursor.execute(
            "select r.name, r.artifact_uri, m.key, m.value from runs r join metrics m using (run_uuid) where "
            "run_uuid = %s",
            (number,),
        )
        rows = cursor.fetchall()
    assert [(name, key, value) for name, _, key, value in rows] == [("on PostgreSQL", "fitness", 0.625)]
    assert rows[0][1].startswith("mlflow-artifacts:/")


def test_the_compose_mlflow_answers_to_its_own_names_only(service_set: ServiceSet) -> None:
    def status(host: str) -> int:
        request = urllib.request.Request(
            service_set.mlflow + "/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": host}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    hosts = ("mlflow:5000", "127.0.0.1:5000", "localhost:5000", "attacker.example", "mlflow.attacker.example:5000")
    assert [status(host) for host in hosts] == [200, 200, 200, 403, 403]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_pages_end_with_their_servers_by_either_signal_in_the_background_too(
    tmp_path: Path, end: signal.Signals
) -> None:
    """A shell makes what it starts in the background ignore Ctrl-C; a supervisor sends SIGTERM."""
    command = f"trap '' INT; exec {sys.executable} -m psomerge ui --prefect-port 0 --mlflow-port 0"
    settings = os.environ | {"PSOMERGE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "said"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=tmp_path, env=settings, stdout=said, start_new_session=True
        )
    try:
        for _ in range(600):
            if "Ctrl-C ends both" in log.read_text():
                break
            time.sleep(0.1)
        members = family(process.pid)
        assert len(members) > 2
        process.send_signal(end)
        process.wait(60)
        _, left = psutil.wait_procs(members, 20)
        assert left == []
    finally:
        for member in psutil.process_iter(["environ"]):
            if (member.info["environ"] or {}).get("PSOMERGE_HOME") == str(tmp_path / "home"):
                member.kill()
