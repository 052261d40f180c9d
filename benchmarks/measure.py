"""What every figure stands on: the machine, and how a time is taken."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time


@dataclass(frozen=True)
class Time:
    """One run of something."""

    wall: float
    cpu: float
    """Seconds of all threads of this process."""


def machine() -> dict[str, object]:
    """Returns CPU model, cores this process may use, memory in GiB and the load average."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def timed(work: Callable[[], object]) -> Time:
    """Returns how long `work` took."""
    wall, cpu = perf_counter(), process_time()
    work()
    return Time(perf_counter() - wall, process_time() - cpu)


def interleaved(works: Sequence[Callable[[], object]], rounds: int) -> list[list[Time]]:
    """Returns the times of every work, taken in turns, so that whatever else the machine does falls on all of them;
    first each runs once untimed."""
    for work in works:
        work()
    times = [[timed(work) for work in works] for _ in range(rounds)]
    return [list(one) for one in zip(*times, strict=True)]


def median_ratio(above: Sequence[Time], below: Sequence[Time], field: str = "wall") -> float:
    """Returns the median over rounds of above / below, each ratio within its own round."""
    return median(getattr(a, field) / getattr(b, field) for a, b in zip(above, below, strict=True))
