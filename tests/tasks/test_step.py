"""Whether a flow run was cancelled: asked of its page, which a run does not depend on."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import prefect.runtime
import pytest
from prefect.context import SyncClientContext
from prefect.exceptions import Abort, CancelledRun
from prefect.states import Cancelled, Cancelling, Completed, Running

from psomerge.tasks import step
from psomerge.tasks.step import CancelledError, call, cancellable, check_cancelled

STATES = {"running": Running(), "cancelling": Cancelling(), "cancelled": Cancelled(), "completed": Completed()}


class Page:
    """A flow run's page that is asked."""

    def __init__(self) -> None:
        self.state, self.asked, self.identity = "running", 0, str(uuid4())

    def read_flow_run(self, identity: Any) -> Any:
        assert str(identity) == self.identity
        self.asked += 1
        if self.state == "dead":
            raise httpx.ConnectError("refused")
        return SimpleNamespace(state=STATES[self.state])


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()

    @contextmanager
    def client() -> Iterator[Any]:
        yield SimpleNamespace(client=page)

    monkeypatch.setattr(SyncClientContext, "get_or_create", client)
    monkeypatch.setattr(prefect.runtime.flow_run, "get_id", lambda: page.identity)
    monkeypatch.setattr(step._Page, "asked", float("-inf"))
    monkeypatch.setattr(step._Page, "silent_until", float("-inf"))
    return page


@pytest.mark.parametrize("state", ["cancelling", "cancelled"])
def test_a_cancelled_run_is_told(page: Page, state: str) -> None:
    check_cancelled()
    page.state = state
    for _ in range(2):
        with pytest.raises(CancelledError, match="the same command goes on") as raised:
            check_cancelled()
    assert raised.value.exit_code == 130


def test_the_page_is_not_asked_sooner_than_it_may(page: Page) -> None:
    for _ in range(5):
        check_cancelled(every_s=60)
    assert page.asked == 1
    page.state = "cancelling"
    check_cancelled(every_s=60)
    with pytest.raises(CancelledError):
        check_cancelled()  # before an act it is asked whenever it was


def test_a_run_goes_on_without_its_page_and_does_not_wait_for_it_each_time(page: Page) -> None:
    page.state = "dead"
    for _ in range(3):
        check_cancelled()
    assert page.asked == 1


def test_outside_of_a_flow_run_nobody_is_asked(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect.runtime.flow_run, "get_id", lambda: None)
    check_cancelled()
    assert page.asked == 0


def test_a_flow_s_function_ends_in_the_state_and_its_caller_hears_of_it() -> None:
    @cancellable
    def cancelled() -> str:
        raise CancelledError("by somebody")

    state: Any = cancelled()
    assert (state.is_cancelled(), state.message) == (True, "by somebody")
    assert cancellable(lambda: "done")() == "done"

    def ends(error: BaseException) -> Any:
        raise error

    for error in (CancelledRun("by somebody"), Abort("by somebody")):
        with pytest.raises(CancelledError, match="by somebody"):
            call(ends, error)
    with pytest.raises(ValueError, match="other"):
        call(ends, ValueError("other"))
