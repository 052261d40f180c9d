"""The date that chat templates write into the prompts of a suite: fixed when the suite is first asked, or the same
command would ask other questions the next day.

    HOME/dates/SUITE.json    SUITE is a digest of the suite; sealed
"""

from dataclasses import asdict
from pathlib import Path

from psomerge.errors import StateError
from psomerge.evals.harness.templates import today
from psomerge.evals.suites.suite import Suite
from psomerge.files.digest import digest_of
from psomerge.files.durable import from_bytes, seal, to_bytes, write_atomic, writing


def asked_on(home: Path, suite: Suite, *, keep: bool = True) -> str:
    """Returns the date, YYYY-MM-DD, on which a suite was first asked in this home; today's if it was not.

    Args:
        home: PSOMERGE_HOME.
        suite: of which any change begins anew.
        keep: whether to remember it.

    Raises:
        StateError: the record is damaged.
        SpaceError: it cannot be written.
    """
    path = home / "dates" / f"{digest_of(_told(suite))[:16]}.json"
    try:
        return from_bytes(path.read_bytes(), indent=2)["date"]
    except FileNotFoundError:
        date = today()
    except (ValueError, KeyError) as error:
        raise StateError(f"{path}: {error}; remove it: the suite's prompts then have the date of today") from error
    if keep and any(one.prompting.chat_template for one in suite.benchmarks):
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, to_bytes(seal({"date": date, "suite": suite.name}), indent=2))
    return date


def _told(suite: Suite) -> dict[str, object]:
    return {key: value for key, value in asdict(suite).items() if key not in ("folder", "shipped")}
