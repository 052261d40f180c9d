"""docker-compose.yml, Dockerfile and .dockerignore: valid, closed to the outside, without secrets."""

import re
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from doubles.services_fixture import compose_file
from places import ROOT

pytestmark = pytest.mark.heavy

SERVERS = {"postgres", "prefect", "mlflow"}


@pytest.fixture
def compose() -> dict:
    return compose_file({"POSTGRES_PASSWORD": "a1b2c3"})


def dockerfile(instruction: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith(f"{instruction} ")]


def test_the_compose_file_follows_the_specification(compose: dict) -> None:
    parsed = PyCompose.from_yaml(yaml.safe_dump(compose))
    parsed.validate()
    assert set(parsed.service_names()) == SERVERS | {"psomerge"}


def test_a_misspelt_key_is_found(compose: dict) -> None:
    compose["services"]["mlflow"]["healthchek"] = {}
    with pytest.raises(ValueError, match="healthchek"):
        PyCompose.from_yaml(yaml.safe_dump(compose)).validate()


def test_without_a_password_nothing_starts() -> None:
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD: set it"):
        compose_file({})


def test_no_password_stands_in_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    in_addresses = re.findall(r"://[^:/\s]+:(.+?)@", text)
    values = [
        value
        for service in yaml.safe_load(text)["services"].values()
        for key, value in service["environment"].items()
        if re.search("PASSWORD|AUTH|KEY", key)
    ]
    assert len(in_addresses) == 2
    assert len(values) == 3
    assert all(value is None or value.startswith("${POSTGRES_PASSWORD:?") for value in in_addresses + values)


def test_every_published_port_is_on_loopback(compose: dict) -> None:
    ports = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert ports == {
        "postgres": [],
        "prefect": ["127.0.0.1:4200:4200"],
        "mlflow": ["127.0.0.1:5000:5000"],
        "psomerge": [],
    }
    assert not any("network_mode" in service for service in compose["services"].values())


def test_every_server_has_a_health_check_and_what_needs_it_waits_for_it(compose: dict) -> None:
    services = compose["services"]
    assert all(services[name]["healthcheck"]["test"][0] == "CMD" for name in SERVERS)
    needs = {name: set(service.get("depends_on", {})) for name, service in services.items()}
    assert needs == {
        "postgres": set(),
        "prefect": {"postgres"},
        "mlflow": {"postgres"},
        "psomerge": {"prefect", "mlflow"},
    }
    conditions = {need["condition"] for service in services.values() for need in service.get("depends_on", {}).values()}
    assert conditions == {"service_healthy"}


def test_only_the_servers_start_by_themselves(compose: dict) -> None:
    assert {name for name, service in compose["services"].items() if not service.get("profiles")} == SERVERS


def test_images_are_pinned_by_version(compose: dict) -> None:
    images = {service["image"] for service in compose["services"].values()} | set(dockerfile("FROM"))
    assert all(re.search(r":\d+\.\d+", image) for image in images), images


def test_what_must_outlast_a_container_is_in_a_named_volume(compose: dict) -> None:
    mounts = {
        mount.split(":")[0]: mount.split(":")[1]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
    }
    assert set(mounts) == set(compose["volumes"]) == {"postgres", "artifacts", "home"}
    command = compose["services"]["mlflow"]["command"]
    assert command[command.index("--artifacts-destination") + 1] == mounts["artifacts"]
    assert compose["services"]["psomerge"]["environment"]["PSOMERGE_HOME"] == mounts["home"]
    # A named volume takes the owner that its folder has in the image; one that is missing there would belong to root.
    made = next(line for line in dockerfile("RUN") if "--directory" in line)
    assert mounts["artifacts"] in made
    assert mounts["home"] in made


def test_the_image_does_not_run_as_root_and_is_made_from_the_lock() -> None:
    assert dockerfile("USER") == ["psomerge"]
    assert any("useradd" in line and "psomerge" in line for line in dockerfile("RUN"))
    assert any(line.endswith("locks/bootstrap.sh cpu") for line in dockerfile("RUN"))


def test_nothing_that_the_image_is_built_from_is_left_out() -> None:
    left_out = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")}
    assert {".git", ".venv", ".psomerge"} <= left_out
    needed = {"pyproject.toml", "README.md", "locks", "configs", "psomerge", "evals", "tasks", "flows"}
    assert not any(Path(name).match(pattern) for name in needed for pattern in left_out)
    assert not [name for name in needed if not (ROOT / name).exists()]
