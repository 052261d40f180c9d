"""A step of a flow: any plain function as a Prefect task, visible by name with its time; and a flow that ends when it
is cancelled on its page.

Nothing is cached, persisted or retried by Prefect: the run's journal is the truth, and Prefect's records have no
checksum.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from time import monotonic
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from psomerge.errors import PsomergeError

P = ParamSpec("P")
T = TypeVar("T")
SILENCE_S = 300.0
"""For so long a server that did not answer is not asked again: each time its client tries for a minute."""


class CancelledError(PsomergeError):
    """A flow run was cancelled on Prefect's page; the same command goes on with it."""

    exit_code = 130


class _Page:
    """What is known of the flow run's page, in seconds of the monotonic clock."""

    asked = silent_until = float("-inf")


def check_cancelled(*, every_s: float = 0.0) -> None:
    """Raises CancelledError if somebody cancelled the flow run that this is called in; does nothing outside of one, nor
    where Prefect's server does not answer: a run does not depend on its page.

    Args:
        every_s: the server is not asked again sooner.
    """
    now = monotonic()
    if "prefect" not in sys.modules or now < max(_Page.silent_until, _Page.asked + every_s):
        return
    import httpx
    from prefect.context import SyncClientContext
    from prefect.exceptions import PrefectException
    from prefect.runtime import flow_run

    if (identity := flow_run.get_id()) is None:
        return
    _Page.asked = now
    try:
        with SyncClientContext.get_or_create() as context:
            state = context.client.read_flow_run(UUID(identity)).state
    except (httpx.HTTPError, PrefectException):
        _Page.silent_until = monotonic() + SILENCE_S
        return
    if state and (state.is_cancelling() or state.is_cancelled()):
        raise CancelledError("cancelled on Prefect's page; the same command goes on from here")


def cancellable(function: Callable[P, T]) -> Callable[P, T]:
    """Returns a flow's function that ends in Prefect's state Cancelled where CancelledError is raised: any other end of
    a run that is being cancelled is refused by the server."""

    @wraps(function)
    def run(*arguments: P.args, **keywords: P.kwargs) -> Any:
        try:
            return function(*arguments, **keywords)
        except CancelledError as error:
            from prefect import states

            return states.Cancelled(message=str(error))

    return run


def call(flow: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Returns what a flow returns; raises what it raises, CancelledError where it was cancelled on its page."""
    from prefect.exceptions import Abort, CancelledRun

    try:
        return flow(*arguments, **keywords)
    except (CancelledRun, Abort) as error:  # Abort: of a run that the page has ended already
        raise CancelledError(str(error) or "cancelled on Prefect's page; the same command goes on from here") from error


def step(name: str, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
    """Runs `function` as a Prefect task called `name` and returns what it returns; raises what it raises.

    Arguments are bound beforehand, so Prefect neither searches them for futures nor stores them. Raises CancelledError
    instead where the flow run was cancelled.
    """
    check_cancelled()
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
