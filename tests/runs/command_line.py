"""The command line called inside this process: for commands that start neither Prefect nor an engine."""

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch


@dataclass(frozen=True)
class Said:
    """Exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """What a refusal says: nothing on stdout, on stderr exactly one line, from the program and no traceback."""
        (line,) = self.lines
        return line

    @property
    def lines(self) -> list[str]:
        """What a refusal of several faults says: as `line`, one for each at least."""
        assert self.out == "", self.out
        lines = self.err.splitlines()
        assert lines
        assert all(line.startswith("psomerge: ") for line in lines), self.err
        return [line.removeprefix("psomerge: ") for line in lines]

    @property
    def text(self) -> str:
        """`lines` as one text."""
        return "\n".join(self.lines)


def psomerge(*arguments: object, home: Path, settings: Mapping[str, str] | None = None) -> Said:
    """What `psomerge ARGUMENTS` with this home says."""
    from psomerge.flows.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    environment = {"PSOMERGE_HOME": str(home)} | dict(settings or {})
    with (
        patch.object(sys, "argv", ["psomerge", *map(str, arguments)]),
        patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())
