"""How long a regular expression takes where its text does not tell: it is tried on texts that are hard for it, by the
library that will use it, in a process of its own (`pattern_process`)."""

import functools
import subprocess
import sys

from psomerge.screening.pattern_process import SECONDS

_WAIT = 300
"""Seconds for all texts, however busy the machine: the process ends itself after 10 of computing."""


@functools.lru_cache(maxsize=256)
def slowness(pattern: str) -> str:
    """Returns on which text a pattern takes too long, or is given up by the library; empty if on none that was found.

    Source: Kirrage, Rathnayake, Thielecke, "Static Analysis for Regular Expression Denial-of-Service Attacks", 2013,
    for the form of the texts: what leads to a repetition, what it takes again and again, what stops it.
    """
    command = [sys.executable, "-P", "-m", "psomerge.screening.pattern_process"]
    try:
        done = subprocess.run(command, input=pattern.encode(), capture_output=True, timeout=_WAIT, check=False)
        lines, ended = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        lines, ended = error.stdout or b"", -1
    if ended == 0:
        return ""
    length, _, beginning = (lines.decode().splitlines() or ["some text"])[-1].partition(" ")
    what = f"takes more than {SECONDS} s of computing for" if ended < 0 else "is given up by tokenizers on"
    return f"{what} {length} characters that begin with {beginning}"
