"""How a shell starts what is installed here."""

import sys
from pathlib import Path

import pytest

from psomerge.flows.commands.pages import program

OWN = Path(sys.executable).parent


def test_a_program_is_named_only_where_the_shell_finds_this_environment_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").symlink_to(Path(sys.executable).resolve())  # the same file, without what is installed here
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin")
    assert program("python") == str(OWN / "python")
    monkeypatch.setenv("PATH", f"{OWN}:{tmp_path}")
    assert program("python") == "python"
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(OWN.parent)
    assert program("psomerge") == f"{OWN.name}/psomerge"
