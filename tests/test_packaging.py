"""The built wheel works without the repository: shipped configs, suites, benchmarks and templates are in it."""

import fnmatch
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from services_fixture import ROOT

PACKAGES = ("psomerge", "evals", "tasks", "flows")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(folder),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def run_installed(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python with the installed copy before everything else: the environment's own psomerge leads to the repository."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PSOMERGE_", "MLFLOW_", "PREFECT_"))
    }
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def data_files() -> set[str]:
    """The names that the wheel must have for all files of the repository's packages and configs that are not
    Python's."""
    inside = {ROOT / name: name for name in PACKAGES} | {ROOT / "configs": "flows/configs"}
    found = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for folder, name in inside.items()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {name for name in found if not name.endswith((".py", ".pyc"))}


def test_the_wheel_holds_every_data_file_of_the_repository(wheel: Path) -> None:
    expected = data_files()
    for pattern in (
        "flows/configs/quickstart.yaml",
        "*/suites/*.yaml",
        "evals/benchmarks/*/*.yaml",
        "*/page.html.jinja",
    ):
        assert fnmatch.filter(expected, pattern), f"the repository has no {pattern}"
    assert expected - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_wheel_holds_the_four_packages_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".safetensors", ".pkl"))]
    modules = {path.relative_to(ROOT).as_posix() for top in PACKAGES for path in (ROOT / top).rglob("*.py")}
    assert modules - set(names) == set()


def test_the_wheel_declares_the_command_and_the_engine_s_plug_in(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    lines = archive.read(entry_points).decode().splitlines()
    assert "psomerge = flows.cli:main" in lines
    assert "psomerge = evals.engines.vllm.transfer:register" in lines[lines.index("[vllm.general_plugins]") :]


def test_the_installed_copy_comes_before_the_repository(installed: Path, tmp_path: Path) -> None:
    code = (
        "import evals, flows, psomerge, tasks; print(*(module.__path__[0] for module in (psomerge, evals, tasks, "
        "flows)))"
    )
    done = run_installed(installed, tmp_path, "-c", code)
    assert done.stdout.split() == [str(installed / name) for name in PACKAGES], done.stderr[-2000:]


def test_the_installed_command_plans_the_quickstart_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run_installed(installed, tmp_path, "-m", "flows.cli", "plan", "quickstart")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "quickstart" in done.stdout
    assert str(ROOT) not in done.stdout + done.stderr
