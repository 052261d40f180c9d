"""With a network: one language of every data set of every shipped suite loads from the hub, at its revision, and makes
its prompts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from made.models import tiny_llama
from places import SHIPPED
from psomerge.evals.harness import build
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Benchmark, Suite

pytestmark = [
    pytest.mark.network,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


def one_of_each(suite: Suite) -> list[Benchmark]:
    """The first benchmark of every data set and kind of task: known by revision, metric and the task's name up to its
    language."""
    found: dict[tuple[object, ...], Benchmark] = {}
    for one in suite.benchmarks:
        found.setdefault((one.revision, one.metric, one.task.removesuffix(one.language)), one)
    return list(found.values())


NAMES = ("understanding", "reasoning", "translation", "bayling2", "low-resource", "glue")
CASES = [(name, one) for name in NAMES for one in one_of_each(load_suite(name, SHIPPED))]


@pytest.fixture(scope="module", autouse=True)
def online() -> Iterator[None]:
    """The other tests are kept from the network."""
    import datasets
    import huggingface_hub

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        yield


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_llama(tmp_path_factory.mktemp("tokenizer"))
    for file in ("config.json", "generation_config.json", "model.safetensors"):  # without them a prompt may be long
        (folder / file).unlink()
    return folder


@pytest.mark.parametrize(("name", "benchmark"), CASES, ids=[f"{name}-{one.name}" for name, one in CASES])
def test_a_language_of_each_data_set_loads_at_its_revision(
    tmp_path: Path, tokenizer: Path, name: str, benchmark: Benchmark
) -> None:
    suite = replace(load_suite(name, SHIPPED), benchmarks=(replace(benchmark, limits={"test": 5}, floor=None),))
    evaluation = build(suite, "test", tokenizer, cache=tmp_path)
    (one,) = evaluation.prepared
    assert len(one.items.docs) == 5
    assert len(evaluation.batch) >= 5
    assert all(group for group in one.items.groups)
