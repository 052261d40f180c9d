"""The services of docker-compose.yml without a Docker engine: its own commands, environments, database script and
health checks, run on this machine.

`service_set` is a pytest fixture; import it by name into a test file. What differs from the containers: names and ports
are 127.0.0.1 and free ports, and folders are folders of the test. PostgreSQL comes from the system's packages.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from places import ROOT

PASSWORD = "a1b2c3"
PORTS = {"postgres": 5432, "prefect": 4200, "mlflow": 5000}  # inside the containers


@dataclass(frozen=True)
class ServiceSet:
    """Addresses of running services: for PREFECT_API_URL, MLFLOW_TRACKING_URI, and of the server `postgres` of both;
    `pids` by service name; `folder` holds NAME.log of each."""

    prefect: str
    mlflow: str
    postgres: str
    pids: Mapping[str, int]
    folder: Path


def compose_file(environment: Mapping[str, str]) -> dict:
    """docker-compose.yml as `docker compose` reads it: `${NAME:?message}` replaced or refused, merge keys applied."""

    def value(match: re.Match) -> str:
        if not environment.get(match["name"]):
            raise ValueError(f"{match['name']}: {match['message']}")
        return environment[match["name"]]

    text = (ROOT / "docker-compose.yml").read_text()
    content = re.sub(r"\$\{(?P<name>\w+):\?(?P<message>[^}]*)\}", value, text)
    assert "${" not in content.split("\nname:")[1], "a form of substitution that this function does not know"
    return yaml.safe_load(content)


def postgres_programs() -> Path:
    """The folder of initdb and postgres; skips the test where there is none, fails it in CI."""
    places = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        Path(shutil.which("initdb") or "/nowhere").resolve().parent,
    ]
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    reason = "PostgreSQL's server programs are not installed (Debian: apt-get install postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def service_set() -> Iterator[ServiceSet]:
    """PostgreSQL, Prefect server and MLflow server, healthy; ended, with all their processes, after the last test."""
    programs = postgres_programs()
    # Not pytest's folder, which is private to this user: PostgreSQL refuses to run as root, and its user must reach its
    # data.
    folder = Path(tempfile.mkdtemp(prefix="psomerge-services-"))
    folder.chmod(0o755)
    services = compose_file({"POSTGRES_PASSWORD": PASSWORD})
    ports = {name: _free_port() for name in PORTS}
    try:
        with ExitStack() as stack:
            pids = {"postgres": stack.enter_context(_postgres(programs, folder, ports["postgres"], services))}
            for name in ("prefect", "mlflow"):
                pids[name] = stack.enter_context(_server(name, services["services"][name], folder, ports))
            for name in ("prefect", "mlflow"):
                _await_health(services["services"][name], pids[name], ports, folder / f"{name}.log")
            addresses = {name: f"http://127.0.0.1:{ports[name]}" for name in ("prefect", "mlflow")}
            postgres = f"postgresql://psomerge:{PASSWORD}@127.0.0.1:{ports['postgres']}"
            yield ServiceSet(
                prefect=addresses["prefect"] + "/api",
                mlflow=addresses["mlflow"],
                postgres=postgres,
                pids=pids,
                folder=folder,
            )
    finally:
        shutil.rmtree(folder)


@contextmanager
def _postgres(programs: Path, folder: Path, port: int, services: Mapping) -> Iterator[int]:
    """What the image does at its first start: a cluster with one superuser, its database, the script; then the server
    alone."""
    settings = services["services"]["postgres"]["environment"]
    data = folder / "postgres"
    data.mkdir()
    secret = folder / "password"
    secret.write_text(settings["POSTGRES_PASSWORD"])
    prefix = []
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(data, account.pw_uid, account.pw_gid)
        prefix = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    options = [
        f"--username={settings['POSTGRES_USER']}",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
    ]
    subprocess.run(
        [*prefix, programs / "initdb", f"--pgdata={data}", *options], check=True, capture_output=True, cwd=folder
    )
    server = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-c", "fsync=off"]
    with _process("postgres", [*prefix, *server], os.environ, folder) as pid:
        psql = [
            "psql",
            "--host=127.0.0.1",
            f"--port={port}",
            f"--username={settings['POSTGRES_USER']}",
            "--no-psqlrc",
            "--quiet",
            "-v",
            "ON_ERROR_STOP=1",
        ]
        environment = os.environ | {"PGPASSWORD": settings["POSTGRES_PASSWORD"]}
        _await_health(services["services"]["postgres"], pid, {"postgres": port}, folder / "postgres.log")
        scripts = [f"CREATE DATABASE {settings['POSTGRES_DB']}", services["configs"]["databases"]["content"]]
        for script in scripts:
            subprocess.run(
                [programs / psql[0], *psql[1:], "--dbname=postgres", "--command", script], check=True, env=environment
            )
        yield pid


@contextmanager
def _server(name: str, service: Mapping, folder: Path, ports: Mapping[str, int]) -> Iterator[int]:
    """The process of one of our own services: the compose file's command and environment with the addresses and folders
    of this machine."""
    places = {"/data/": f"{folder}/data/", "/tmp/": f"{folder}/"}
    settings = {
        key: _native(value, ports, places) for key, value in service["environment"].items() if value is not None
    }
    command = [_native(word, ports, places) for word in service["command"]]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    (folder / "data").mkdir(exist_ok=True)
    home = (
        {"PREFECT_HOME": str(folder / "prefect-home")} if name == "prefect" else {}
    )  # in a container it is the user's own
    program = Path(sys.executable).with_name(command[0])
    with _process(name, [str(program), *command[1:]], inherited | home | settings, folder) as pid:
        yield pid


def _native(text: str, ports: Mapping[str, int], places: Mapping[str, str]) -> str:
    """A word of the compose file with the addresses and folders of this machine in place of the containers'."""
    for name, inside in PORTS.items():
        text = text.replace(f"@{name}:{inside}", f"@127.0.0.1:{ports.get(name)}").replace(
            f"127.0.0.1:{inside}", f"127.0.0.1:{ports.get(name)}"
        )
        text = str(ports.get(name)) if text == str(inside) else text
    for inside, here in places.items():
        text = text.replace(inside, here)
    return "127.0.0.1" if text == "0.0.0.0" else text


@contextmanager
def _process(name: str, command: list, environment: Mapping[str, str], folder: Path) -> Iterator[int]:
    """A process for the time of the block, in a group of its own, its output in NAME.log; afterwards none of the group
    is left."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process.pid
    finally:
        family = (
            [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            if process.poll() is None
            else []
        )
        process.terminate() if name != "postgres" else process.send_signal(
            2
        )  # SIGINT: PostgreSQL's fast shutdown, which does not wait for clients
        _, alive = psutil.wait_procs(family, timeout=30)
        for member in alive:
            member.kill()
        process.wait(timeout=10)
        assert not alive, f"{name} did not end when it was asked to"


def _await_health(service: Mapping, pid: int, ports: Mapping[str, int], log: Path) -> None:
    """Wait until the compose file's own health check of the service passes, for at most 180 s."""
    test = [_native(word, ports, {}) for word in service["healthcheck"]["test"][1:]]
    test[0] = str({"python": sys.executable, "pg_isready": postgres_programs() / "pg_isready"}[test[0]])
    if "pg_isready" in test[0]:
        test.append(f"--port={ports['postgres']}")
    end = time.monotonic() + 180
    while (done := subprocess.run(test, capture_output=True, text=True)).returncode:
        if time.monotonic() > end or not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            pytest.fail(f"{' '.join(test)} failed: {done.stderr[-300:]}\n{log.read_text()[-3000:]}")
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
