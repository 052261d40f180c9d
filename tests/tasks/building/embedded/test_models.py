"""Training of the embedded models, from end to end with few steps: what is written, what is told, what an interruption
leaves."""

import fcntl
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from math import log
from pathlib import Path

import psutil
import pytest
import torch

from places import SHIPPED
from psomerge.checkpoint.finite import check_finite
from psomerge.checkpoint.pins import file_digests
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import PsomergeError, SpaceError
from psomerge.evals.benchmarks.cldr.names import LANGUAGES
from psomerge.evals.harness import build
from psomerge.evals.suites.file import load_suite
from psomerge.fit.misfits import all_misfits
from psomerge.tasks.building.embedded import EXPERTS, MODELS, embedded_folder, train
from psomerge.tasks.building.embedded.blocks import blocks_of, train_tokenizer
from psomerge.tasks.building.embedded.recipe import SHAPE

FEW = 0.01
"""Effort of the trainings here: nine steps of the base, two or three of an expert."""

pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_the_loss_is_the_weighted_mean_cross_entropy_of_the_next_token():
    from types import SimpleNamespace

    from psomerge.tasks.building.embedded.training import weighted_loss

    # Two tokens, three positions. p(next) is read off by hand: softmax of (0, log 3) is (1/4, 3/4), of (0, 0) is (1/2,
    # 1/2).
    logits = torch.tensor([[[0.0, log(3)], [0.0, 0.0], [9.0, -9.0]]])
    labels = torch.tensor([[[0.0, 1.0, 0.0], [5.0, 0.1, 1.0]]])
    expected = (0.1 * -log(3 / 4) + 1.0 * -log(1 / 2)) / 1.1
    assert weighted_loss(SimpleNamespace(logits=logits), labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads of a small model wait for each other more than they work when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_training_lowers_the_loss_and_tells_how_far_it_is():
    from psomerge.tasks.building.embedded.training import fit, new_model

    ids, weights = blocks_of(train_tokenizer(0), "base", 0, effort=0.02)
    model, told = new_model(0), []
    with torch.no_grad():
        before = model(ids[-8:], labels=ids[-8:]).loss.item()
    fit(model, ids[:-8], weights[:-8], rate=4e-3, progress=told.append)
    with torch.no_grad():
        after = model.eval()(ids[-8:], labels=ids[-8:]).loss.item()
    # A uniform guess over 640 tokens costs log(640) = 6.46; blocks that were not trained on must have become easier.
    assert before == pytest.approx(6.46, abs=0.4)
    assert after < before - 1
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) == (len(ids) - 8) // SHAPE.batch


def test_the_folder_is_named_by_seed_and_recipe_under_experts(tmp_path: Path):
    first, second = embedded_folder(tmp_path, 0), embedded_folder(tmp_path, 1)
    assert first.parent == second.parent == tmp_path / "experts"
    assert first != second
    assert first == embedded_folder(tmp_path, 0)


def test_the_recipe_imports_no_heavy_library():
    code = (
        "import sys, psomerge.tasks.building.embedded; print(*{'torch', 'transformers', 'datasets', 'babel'} & "
        "set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, float]]]:
    """All models of seed 0 after a few steps, and what was told meanwhile."""
    folder, told = tmp_path_factory.mktemp("embedded") / "models", []
    assert train(folder, seed=0, progress=lambda what, share: told.append((what, share)), effort=FEW) == {
        name: folder / name for name in MODELS
    }
    return folder, told


def test_every_model_is_one_plain_bf16_checkpoint_that_fits_the_base(trained: tuple[Path, list[tuple[str, float]]]):
    folder, _ = trained
    base = open_checkpoint(folder / "base", "base")
    experts = [open_checkpoint(folder / name, name) for name in EXPERTS]
    assert all_misfits(base, experts) == []
    for checkpoint in (base, *experts):
        check_finite(checkpoint)
        assert {info.dtype for info in checkpoint.tensors.values()} == {torch.bfloat16}
        assert {info.file for info in checkpoint.tensors.values()} == {"model.safetensors"}
        assert checkpoint.tied
        assert checkpoint.config["use_cache"]
        assert not any(
            path.is_symlink() or path.stat().st_mode & 0o777 != 0o644 for path in checkpoint.folder.iterdir()
        )
    # 640 * 160 + 2 * (4 * 160^2 + 3 * 160 * 448 + 2 * 160) + 160
    assert (
        sum(info.shape[0] * (info.shape[1] if len(info.shape) > 1 else 1) for info in base.tensors.values()) == 738_080
    )


def test_every_expert_differs_from_the_base_and_from_the_others(trained: tuple[Path, list[tuple[str, float]]]):
    folder, _ = trained
    assert len({file_digests(folder / name)["model.safetensors"] for name in MODELS}) == 5
    assert len({file_digests(folder / name)["tokenizer.json"] for name in MODELS}) == 1


def test_progress_rises_to_the_end_and_names_what_is_trained(trained: tuple[Path, list[tuple[str, float]]]):
    _, told = trained
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == 1
    assert told[0][0] == "training base"
    assert {name for what, _ in told for name in what.removeprefix("training ").split(", ")} == set(MODELS)


def test_the_suite_asks_the_trained_tokenizer_350_items_with_kinds_in_one_token(
    trained: tuple[Path, list[tuple[str, float]]], tmp_path: Path
):
    folder, _ = trained
    found = build(load_suite("quickstart", SHIPPED), "optimisation", folder / "base", cache=tmp_path)
    assert {name: len(items) for name, items in found.items.items()} == {f"pick-{x}": 50 for x in LANGUAGES} | {
        f"kind-{x}": 50 for x in (*LANGUAGES, "en")
    }
    # Four words for each of 200 questions: the requests that end in one token. A pick choice has two at least, the name
    # and its full stop.
    assert sum(len(request.continuation) == 1 for request in found.batch.loglikelihood) == 800
    assert found.longest < SHAPE.positions


def test_a_missing_model_is_trained_again_with_the_same_bits_and_the_others_stay(
    trained: tuple[Path, list[tuple[str, float]]], tmp_path: Path
):
    folder = tmp_path / "models"
    shutil.copytree(trained[0], folder)
    shutil.rmtree(folder / "eu")
    (folder / ".eu.psomerge-left").mkdir()  # as a killed worker leaves it
    kept = {name: (folder / name / "model.safetensors").stat().st_mtime_ns for name in MODELS if name != "eu"}
    told: list[tuple[str, float]] = []
    train(folder, seed=0, progress=lambda what, share: told.append((what, share)), effort=FEW)
    assert file_digests(folder / "eu") == file_digests(trained[0] / "eu")
    assert {name: (folder / name / "model.safetensors").stat().st_mtime_ns for name in kept} == kept
    assert {what for what, _ in told} == {"training eu"}
    assert sorted(path.name for path in folder.iterdir()) == sorted([".lock", *MODELS])


def test_nothing_is_trained_where_all_is_there(trained: tuple[Path, list[tuple[str, float]]]):
    told: list[tuple[str, float]] = []
    train(trained[0], seed=0, progress=lambda what, share: told.append((what, share)), effort=FEW)
    assert told == []


def starts_training(folder: Path, **streams: int) -> subprocess.Popen[str]:
    """Another process that trains seed 0 whole and prints its progress."""
    code = (
        f"from pathlib import Path; from psomerge.tasks.building.embedded import train; train(Path({str(folder)!r}), "
        "seed=0, "
        "progress=lambda *x: print(*x, flush=True))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **streams)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_training_takes_its_workers_along_and_leaves_no_half_model(tmp_path: Path, how: signal.Signals):
    with starts_training(tmp_path, stderr=subprocess.DEVNULL) as started:
        assert started.stdout is not None
        assert started.stdout.readline().startswith("training base")
        workers = psutil.Process(started.pid).children(recursive=True)
        assert workers
        started.send_signal(how)
        assert started.wait(60) != 0
    # After SIGKILL nobody ends the worker: it ends by itself when its next line finds no reader.
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_worker_that_dies_is_reported_with_its_last_words(tmp_path: Path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(
        "{}"
    )  # seems to be there, but is no model: the experts cannot start from it
    with pytest.raises(PsomergeError, match="expected the training processes to end with status 0"):
        train(tmp_path, seed=0, progress=lambda what, share: None, effort=FEW)


def test_a_place_that_cannot_be_a_folder_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SpaceError, match="expected to write here"):
        train(tmp_path / "file" / "models", seed=0, progress=lambda what, share: None)


def test_a_second_process_waits_for_the_first(trained: tuple[Path, list[tuple[str, float]]]):
    with open(trained[0] / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with starts_training(trained[0]) as second:
            assert second.stdout is not None
            assert second.stdout.readline().startswith("waiting for another process")
            assert second.poll() is None
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.wait(60) == 0
