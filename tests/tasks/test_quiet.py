"""Clients of services are silenced as long as anyone needs it, and not longer."""

import logging

import pytest

from psomerge.tasks.quiet import quiet


def test_blocks_of_silence_that_overlap_end_with_the_last(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a client of a service")
    logger.setLevel(logging.INFO)
    first, second = quiet(logger.name), quiet(logger.name)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    logger.warning("hidden")
    second.__exit__(None, None, None)
    logger.info("shown")
    assert logger.level == logging.INFO
    assert caplog.messages == ["shown"]
