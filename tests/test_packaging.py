"""The built wheel works without the repository: shipped configs, suites, benchmarks and templates are in it."""

import fnmatch
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from places import ROOT

pytestmark = pytest.mark.heavy

PACKAGE = ROOT / "psomerge"


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
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def data_files() -> set[str]:
    """The names that the wheel must have for all files of the package that are not Python's."""
    return {name for name in package_files() if not name.endswith((".py", ".pyc"))}


def package_files() -> set[str]:
    """The names that the wheel must have: also of what lies at the repository's top and is linked from the package."""
    walked = ((Path(folder), name) for folder, _, names in os.walk(PACKAGE, followlinks=True) for name in names)
    return {(folder / name).relative_to(ROOT).as_posix() for folder, name in walked if folder.name != "__pycache__"}


def test_the_wheel_holds_every_data_file_of_the_repository(wheel: Path) -> None:
    expected = data_files()
    for pattern in (
        "psomerge/configs/quickstart.yaml",
        "*/suites/*.yaml",
        "psomerge/evals/benchmarks/*/*.yaml",
        "*/page.html.jinja",
        "*/card.md.jinja",
    ):
        assert fnmatch.filter(expected, pattern), f"the repository has no {pattern}"
    assert expected - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_wheel_holds_one_package_and_nothing_of_the_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"psomerge"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".safetensors", ".pkl"))]
    modules = {name for name in package_files() if name.endswith(".py")}
    assert {"psomerge/flows/cli.py", "psomerge/tasks/step.py", "psomerge/evals/engines/engine.py"} <= modules
    assert modules - set(names) == set()


def test_the_wheel_declares_the_command_and_the_engine_s_plug_in(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (entry_points,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    lines = archive.read(entry_points).decode().splitlines()
    assert "psomerge = psomerge.flows.cli:main" in lines
    assert "psomerge = psomerge.evals.engines.vllm.transfer:register" in lines[lines.index("[vllm.general_plugins]") :]


def test_the_installed_copy_comes_before_the_repository(installed: Path, tmp_path: Path) -> None:
    code = "import psomerge, psomerge.evals, psomerge.flows; print(psomerge.__path__[0], psomerge.flows.__path__[0])"
    done = run_installed(installed, tmp_path, "-c", code)
    assert done.stdout.split() == [str(installed / "psomerge"), str(installed / "psomerge" / "flows")], done.stderr


def test_the_installed_command_plans_the_quickstart_in_a_folder_with_packages_of_our_folders_names(
    installed: Path, tmp_path: Path
) -> None:
    for name in ("flows", "tasks", "evals", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the user's own package')\n")
    done = run_installed(installed, tmp_path, "-m", "psomerge", "plan", "quickstart")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "quickstart" in done.stdout
    assert str(ROOT) not in done.stdout + done.stderr
