"""The guess of a run's time before any run: right in its order of magnitude for what was measured, silent where nothing
bounds the items."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from command_line import psomerge
from models import tiny_llama

from evals.suites.file import load_suite
from evals.suites.suite import Prompting
from flows import guess
from flows.schema import configs_folder


@pytest.fixture
def suite():
    return load_suite("quickstart", configs_folder() / "suites")


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guess, "speed", lambda threads: 2.2e11)


@pytest.mark.parametrize(("parameters", "measured"), [(700_000, 0.68), (134_500_000, 9.1)])
def test_what_was_measured_lies_between(suite, steady: None, parameters: int, measured: float) -> None:
    """Seconds of a judgement of the quickstart's 350 items, measured on two cores that do about 2.2e11 operations a
    second."""
    least, most = guess.guess(suite, 10, parameters, 2) or (0.0, 0.0)
    assert least < 10 * measured < most
    # By hand: 7 benchmarks of 50 items of 100 tokens, two operations a parameter and token.
    assert least * 5 == pytest.approx(most / 5) == pytest.approx(10 * (350 * 0.002 + 35_000 * 2 * parameters / 2.2e11))


def test_examples_count_and_a_benchmark_without_limit_cannot_be_guessed(suite, steady: None) -> None:
    plain, shots = (
        suite,
        replace(suite, benchmarks=tuple(replace(one, prompting=Prompting(num_fewshot=5)) for one in suite.benchmarks)),
    )
    assert (guess.guess(shots, 1, 10**12, 1) or (0,))[0] == pytest.approx(
        6 * (guess.guess(plain, 1, 10**12, 1) or (0,))[0], rel=1e-3
    )
    assert (
        guess.guess(replace(suite, benchmarks=(*suite.benchmarks, replace(suite.benchmarks[0], limits={}))), 1, 1, 1)
        is None
    )


def test_the_machine_s_speed_is_measured_and_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    assert 1e8 < guess.speed(1) < 1e15
    assert torch.get_num_threads() == before


def test_plan_says_the_range_and_where_it_comes_from(tmp_path: Path) -> None:
    config = {
        "name": "small",
        "base": str(tiny_llama(tmp_path / "base")),
        "experts": {"one": str(tiny_llama(tmp_path / "one", 1))},
    }
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(config | {"suite": "quickstart", "register": {"model": "small"}})
    )
    said = psomerge("plan", tmp_path / "small.yaml", home=tmp_path / "home")
    assert said.code == 0, said.err
    (line,) = [line for line in said.out.splitlines() if line.startswith("time: ")]
    assert line.startswith("time: between ")
    assert "guessed from this machine's speed and 100 tokens an item" in line
