"""Settings that every test shares. Checkpoints to test on are made by `tests/made/models.py`."""

import os
import sys
from collections.abc import Iterator

import pytest

os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn")


@pytest.fixture(scope="session", autouse=True)
def no_process(pytestconfig: pytest.Config) -> None:
    """Where the heavy tests are left out, the others may start none."""

    def refuse(event: str, _: object) -> None:
        if event in STARTS:
            raise AssertionError(f"{event}: a test that starts a process is marked heavy")

    if "not heavy" in pytestconfig.option.markexpr:
        sys.addaudithook(refuse)


@pytest.fixture(scope="module", autouse=True)
def environment_as_before() -> Iterator[None]:
    """Takes back what a module's tests leave in the environment: MLflow writes the addresses of its stores there, where
    the next ones' processes find them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
