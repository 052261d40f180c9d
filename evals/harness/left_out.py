"""Items that a suite's `leave_out` names: they belong to no split, join no group, and are no examples."""

from collections.abc import Mapping

from psomerge.errors import ConfigError, nearest
from psomerge.evals.harness.items import Documents
from psomerge.evals.suites.suite import Suite


def told_left_out(suite: Suite, documents: Mapping[str, Documents]) -> str:
    """Returns in one line what a suite leaves out; empty where it leaves out nothing.

    Args:
        suite: whose benchmarks name items; one entry's benchmarks in several languages name the same.
        documents: by benchmark, of those whose data are here.

    Raises:
        ConfigError: a name of no item of the benchmarks that it is said for.
    """
    for name in dict.fromkeys(name for one in suite.benchmarks for name in one.leave_out):
        told = [one.name for one in suite.benchmarks if name in one.leave_out]
        if all(one in documents for one in told):
            known = [other for one in told for other in documents[one].names]
            if name not in known:
                raise ConfigError(
                    f"suite {suite.name}: benchmark {told[0]}: leave_out: no item is called {name!r}"
                    f"{nearest(name, known)}"
                )
    lines = []
    for one in suite.benchmarks:
        if one.leave_out and one.name in documents:
            names = [documents[one.name].names[place] for place in sorted(documents[one.name].left_out)]
            lines.append(f"{len(names)} of benchmark {one.name} ({', '.join(names)})")
    return f"items left out, as `leave_out` says: {'; '.join(lines)}" if lines else ""
