"""A step of a flow: any plain function as a Prefect task, visible by name with its time.

Nothing is cached, persisted or retried by Prefect: the run's journal is the truth, and Prefect's records have no
checksum.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def step(name: str, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Runs `function` as a Prefect task called `name` and returns what it returns; raises what it raises.

    Arguments are bound beforehand, so Prefect neither searches them for futures nor stores them.
    """
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False, retries=0)
    def run() -> T:
        return function(*arguments, **keywords)

    return run()


def show_table(key: str, rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """Shows rows on the flow's Prefect page.

    Args:
        key: lower-case letters, digits and dashes.
        rows: plain values.
        text: what they are, in Markdown.
    """
    from prefect.artifacts import create_table_artifact

    create_table_artifact(key=key, table=[dict(row) for row in rows], description=text)


class Bar:
    """A progress artifact on the flow's Prefect page."""

    def __init__(self, key: str, text: str) -> None:
        from prefect.artifacts import create_progress_artifact

        self._id: Any = create_progress_artifact(progress=0.0, key=key, description=text)
        self._shown = 0.0

    def show(self, share: float) -> None:
        """Shows that `share` in [0, 1] is done; changes below two hundredths wait for the next, as each costs a
        call."""
        from prefect.artifacts import update_progress_artifact

        if share - self._shown >= 0.02 or share >= 1.0 > self._shown:
            update_progress_artifact(artifact_id=self._id, progress=100.0 * share)
            self._shown = share
