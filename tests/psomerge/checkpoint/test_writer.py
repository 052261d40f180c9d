"""What is written is read back with equal bits by us and by others; what cannot be written leaves nothing behind."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.pins import file_digests
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.checkpoint.writer import write_checkpoint, write_companions
from psomerge.errors import ArtefactError, ConfigError, PsomergeError, SpaceError

pytestmark = pytest.mark.heavy

BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def stream(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, checkpoint.tensor(name)) for name in checkpoint.tensors)


def copy(checkpoint: Checkpoint, folder: Path, dtype: str = "base", shard_bytes: int = 2**30) -> dict[str, str]:
    return write_checkpoint(folder, stream(checkpoint), checkpoint, checkpoint, dtype, shard_bytes)


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder as the safetensors library reads them."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def toy(tmp_path: Path) -> Checkpoint:
    """16 + 8 + 24 bytes of tensors in three dtypes."""
    content = {
        "layers.0.w": torch.arange(8).to(BF16).reshape(4, 2),
        "layers.1.norm": torch.tensor([1.5, -2.0]),
        "layers.1.ids": torch.tensor([5, 6, 7]),
    }
    return open_checkpoint(toy_checkpoint(tmp_path / "toy", content))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("shard_bytes", [2**30, 40_000], ids=["single", "sharded"])
def test_a_written_model_is_read_back_with_equal_bits_by_us_safetensors_and_transformers(
    tmp_path: Path, tied: bool, shard_bytes: int
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = open_checkpoint(tiny_llama(tmp_path / "base", tied=tied))
    digests = copy(base, tmp_path / "out", shard_bytes=shard_bytes)
    ours = open_checkpoint(tmp_path / "out")
    expected = load_file(base.folder / "model.safetensors")
    assert (tmp_path / "out" / "model.safetensors.index.json").exists() is (shard_bytes == 40_000)
    assert digests == file_digests(tmp_path / "out")
    assert same({name: ours.tensor(name) for name in ours.tensors}, expected)
    assert same(loaded(tmp_path / "out"), expected)
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == BF16
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("tamil") == AutoTokenizer.from_pretrained(
        base.folder
    ).encode("tamil")


@settings(max_examples=40, deadline=None, database=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([BF16, F16, F32, torch.int64, torch.bool]), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 200),
    st.randoms(use_true_random=False),
)
def test_any_tensors_in_any_order_and_shard_size_come_back(
    tmp_path_factory: pytest.TempPathFactory, kinds: list, shard_bytes: int, random: object
) -> None:
    place = tmp_path_factory.mktemp("any")
    content = {
        f"layers.{i}.w": torch.arange(torch.Size(shape).numel()).to(dtype).reshape(shape)
        for i, (dtype, shape) in enumerate(kinds)
    }
    base = open_checkpoint(toy_checkpoint(place / "base", content, {"torch_dtype": None}))
    order = list(content.items())
    random.shuffle(order)  # type: ignore[attr-defined]
    digests = write_checkpoint(place / "out", order, base, base, "base", shard_bytes)
    ours = open_checkpoint(place / "out")
    assert same({name: ours.tensor(name) for name in ours.tensors}, content)
    assert same(loaded(place / "out"), content)
    assert digests == file_digests(place / "out")
    assert all(
        info.begin % info.dtype.itemsize == 0 for info in ours.tensors.values()
    )  # programs that map the file need this


def test_no_shard_is_larger_than_asked_for_and_none_could_be_spared(tmp_path: Path, toy: Checkpoint) -> None:
    copy(toy, tmp_path / "out", shard_bytes=32)
    # in layer order 16 | 24 + 8: layers.1.ids comes before layers.1.norm
    assert [list(load_file(file)) for file in sorted((tmp_path / "out").glob("*.safetensors"))] == [
        ["layers.0.w"],
        ["layers.1.ids", "layers.1.norm"],
    ]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48
    assert index["weight_map"]["layers.0.w"] == "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(("dtype", "expected"), [("float32", F32), ("float16", F16), ("bfloat16", BF16)])
def test_a_named_dtype_holds_for_floats_only_and_stands_in_the_config(
    tmp_path: Path, toy: Checkpoint, dtype: str, expected: torch.dtype
) -> None:
    copy(toy, tmp_path / "out", dtype)
    out = open_checkpoint(tmp_path / "out")
    assert {name: info.dtype for name, info in out.tensors.items()} == {
        "layers.0.w": expected,
        "layers.1.norm": expected,
        "layers.1.ids": torch.int64,
    }
    assert out.config["torch_dtype"] == dtype
    assert out.tensor("layers.1.norm").tolist() == [1.5, -2.0]


def test_dtype_base_keeps_each_dtype_and_the_config_names_that_of_most_bytes(tmp_path: Path) -> None:
    base = open_checkpoint(
        toy_checkpoint(
            tmp_path / "b",
            {"w": torch.ones(8).to(BF16), "n": torch.ones(1)},
            {"torch_dtype": "float32", "dtype": "float32"},
        )
    )
    copy(base, tmp_path / "out")
    out = open_checkpoint(tmp_path / "out")
    assert (out.tensors["w"].dtype, out.tensors["n"].dtype) == (BF16, F32)
    assert (out.config["torch_dtype"], out.config["dtype"]) == ("bfloat16", "bfloat16")


def test_tokenizer_generation_config_and_stop_tokens_come_from_their_checkpoint_and_nothing_else_is_copied(
    tmp_path: Path, toy: Checkpoint
) -> None:
    folder = toy_checkpoint(
        tmp_path / "chat", {"w": torch.ones(1)}, {"eos_token_id": [7, 8], "pad_token_id": 3, "hidden_size": 99}
    )
    for name in (
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
        "evil.py",
        "README.md",
        "recipe.json",
    ):
        (folder / name).write_text(f'{{"from": "{name}"}}')
    write_checkpoint(tmp_path / "out", stream(toy), toy, open_checkpoint(folder), "base")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    }
    assert (tmp_path / "out" / "chat_template.jinja").read_bytes() == (folder / "chat_template.jinja").read_bytes()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == ([7, 8], 3)
    assert "hidden_size" not in config  # the toy base has none


def test_a_stop_token_of_the_base_that_the_tokenizers_checkpoint_lacks_is_not_kept(tmp_path: Path) -> None:
    base = open_checkpoint(
        toy_checkpoint(tmp_path / "base", {"w": torch.ones(1)}, {"eos_token_id": 2, "pad_token_id": 0})
    )
    chat = open_checkpoint(toy_checkpoint(tmp_path / "chat", {"w": torch.ones(1)}, {"eos_token_id": 7}))
    write_checkpoint(tmp_path / "out", stream(base), base, chat, "base")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["eos_token_id"] == 7
    assert "pad_token_id" not in config


def test_the_config_names_the_written_dtype_in_each_section_and_nobodys_folder(tmp_path: Path) -> None:
    config = {
        "text_config": {"dtype": "bfloat16", "hidden_size": 4},
        "_name_or_path": "/home/ada/secret",
        "note": "half a character \ud800",
    }
    base = open_checkpoint(toy_checkpoint(tmp_path / "toy", {"w": torch.ones(2, dtype=BF16)}, config))
    copy(base, tmp_path / "out", "float16")
    out = open_checkpoint(tmp_path / "out").config
    assert out["text_config"] == {"dtype": "float16", "hidden_size": 4}
    assert out["torch_dtype"] == "float16"
    assert "_name_or_path" not in out


def test_companions_alone_are_what_stands_beside_the_weights(tmp_path: Path) -> None:
    base = open_checkpoint(tiny_llama(tmp_path / "base"))
    (tmp_path / "engine").mkdir()
    digests = write_companions(tmp_path / "engine", base, base, "float32")
    full = copy(base, tmp_path / "out", "float32")
    del full["model.safetensors"]
    assert digests == full == file_digests(tmp_path / "engine")


def test_files_are_readable_by_others(tmp_path: Path, toy: Checkpoint) -> None:
    before = os.umask(0o077)
    try:
        copy(toy, tmp_path / "out")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()} == {0o644}


def test_a_strided_wider_or_gradient_tensor_is_written_as_its_rounded_values(tmp_path: Path) -> None:
    base = open_checkpoint(toy_checkpoint(tmp_path / "base", {"w": torch.zeros(2, 3, dtype=BF16)}))
    wide = torch.tensor(
        [[1.0, 2.0], [3.0, 4.0], [1.00390625, 6.0]], requires_grad=True
    )  # 1 + 2**-8 is a tie: to even, 1.0
    write_checkpoint(tmp_path / "out", [("w", wide.T)], base, base, "base")
    assert loaded(tmp_path / "out")["w"].tolist() == [[1.0, 3.0, 1.0], [2.0, 4.0, 6.0]]


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path, toy: Checkpoint) -> None:
    (tmp_path / "empty").mkdir()
    assert copy(toy, tmp_path / "empty") == copy(toy, tmp_path / "a" / "b" / "c")


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.rglob("*") if "toy" not in path.parts)


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path, toy: Checkpoint) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="exists already"):
        copy(toy, tmp_path / "out")
    assert left(tmp_path) == ["out", "thesis.tex"]


@pytest.mark.parametrize("place", ["file", "link", "file/below"])
def test_a_place_that_cannot_be_a_folder_is_a_config_error(tmp_path: Path, toy: Checkpoint, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigError):
        copy(toy, tmp_path / place)
    assert left(tmp_path) == ["file", "link"]


@pytest.mark.parametrize(("dtype", "shard_bytes"), [("float8", 2**30), ("base", 0)])
def test_an_impossible_dtype_or_shard_size_is_a_config_error(
    tmp_path: Path, toy: Checkpoint, dtype: str, shard_bytes: int
) -> None:
    with pytest.raises(ConfigError):
        copy(toy, tmp_path / "out", dtype, shard_bytes)
    assert left(tmp_path) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ArtefactError, RuntimeError, SystemExit])
@pytest.mark.parametrize("shard_bytes", [2**30, 16])
def test_an_interruption_leaves_nothing_not_even_parents(
    tmp_path: Path, toy: Checkpoint, stop: type[BaseException], shard_bytes: int
) -> None:
    def broken() -> Iterator[tuple[str, torch.Tensor]]:
        yield next(stream(toy))
        raise stop("in the middle")

    with pytest.raises(stop, match="in the middle"):
        write_checkpoint(tmp_path / "a" / "out", broken(), toy, toy, "base", shard_bytes)
    assert left(tmp_path) == []


def test_an_interruption_leaves_an_empty_target_as_it_was(tmp_path: Path, toy: Checkpoint) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(PsomergeError):
        write_checkpoint(tmp_path / "out", [], toy, toy, "base")
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda items: items[:-1], "1 tensors never came, the first is 'layers.1.norm'"),
        (lambda items: [*items, items[0]], "'layers.0.w' came twice"),
        (lambda items: [*items, ("lm_head.weight", items[0][1])], "'lm_head.weight' came twice or belongs to no part"),
        (lambda items: [(items[0][0], items[0][1].T), *items[1:]], r"planned was torch.bfloat16 \[4, 2\]"),
        (lambda items: [(name, tensor.float()) for name, tensor in items], r"'layers.1.ids' came as torch.float32"),
    ],
    ids=["missing", "twice", "unknown", "shape", "float for integer"],
)
def test_tensors_that_are_not_the_bases_are_refused(
    tmp_path: Path, toy: Checkpoint, change: object, phrase: str
) -> None:
    with pytest.raises(PsomergeError, match=phrase):
        write_checkpoint(tmp_path / "out", change(list(stream(toy))), toy, toy, "base")  # type: ignore[operator]
    assert left(tmp_path) == []


def test_a_merge_that_overflows_float16_is_not_published(tmp_path: Path) -> None:
    base = open_checkpoint(toy_checkpoint(tmp_path / "toy", {"w": torch.ones(3)}))
    with pytest.raises(ArtefactError, match="merged tensor 'w' holds 2 values that are NaN or infinite"):
        write_checkpoint(tmp_path / "out", [("w", torch.tensor([1.0, 70000.0, -1e9]))], base, base, "float16")
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "open"])
def test_a_full_or_forbidden_disk_is_named_with_the_bytes_needed(
    tmp_path: Path, toy: Checkpoint, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    genuine = getattr(os, call)

    def fail(*arguments: object, **named: object) -> object:
        if call == "open" and not (isinstance(arguments[0], os.PathLike) and arguments[1] & os.O_CREAT):  # type: ignore[operator]
            return genuine(*arguments, **named)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SpaceError) as caught:
        copy(toy, tmp_path / "out")
    monkeypatch.undo()
    assert str(tmp_path / "out") in str(caught.value)
    assert any(
        int(word) >= 48 for word in str(caught.value).split() if word.isdecimal()
    )  # the tensors alone have 48 bytes
    assert left(tmp_path) == []


def test_too_little_room_is_seen_before_a_tensor_is_asked_for(
    tmp_path: Path, toy: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = os.statvfs

    def nearly_full(path: Path) -> os.statvfs_result:
        values = list(genuine(path))
        values[4] = 0  # f_bavail
        return os.statvfs_result(values)

    def never() -> Iterator[tuple[str, torch.Tensor]]:
        raise AssertionError("a tensor was asked for")
        yield

    monkeypatch.setattr(os, "statvfs", nearly_full)
    with pytest.raises(SpaceError, match="0 are free"):
        write_checkpoint(tmp_path / "out", never(), toy, toy, "base")
    assert left(tmp_path) == []


def test_a_real_limit_of_the_system_in_the_middle_of_a_tensor_leaves_nothing(tmp_path: Path) -> None:
    base = open_checkpoint(toy_checkpoint(tmp_path / "toy", {"w": torch.ones(2**20)}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (2**20, before[1])
    )  # a quarter of the tensor: the first write is cut short, the second fails
    try:
        with pytest.raises(SpaceError, match="no room for"):
            copy(base, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_disk_that_fills_up_while_tensors_come_leaves_nothing(tmp_path: Path, toy: Checkpoint) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    ).returncode:
        pytest.skip("this container mounts nothing")
    try:

        def filling() -> Iterator[tuple[str, torch.Tensor]]:
            with open(small / "other program", "wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield from stream(toy)

        with pytest.raises(SpaceError, match="No space left"):
            write_checkpoint(small / "out", filling(), toy, toy, "base")
        assert [path.name for path in small.iterdir()] == ["other program"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.checkpoint.writer import write_checkpoint
base = open_checkpoint(Path(sys.argv[1]))
def tensors():
    yield "layers.0.w", base.tensor("layers.0.w")
    os.kill(os.getpid(), signal.SIGKILL)
write_checkpoint(Path(sys.argv[2]), tensors(), base, base, "base")
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one_to_the_same_place(
    tmp_path: Path, toy: Checkpoint
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(toy.folder), str(tmp_path / "out")], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert any(name.startswith(".out.psomerge-") for name in left(tmp_path))
    copy(toy, tmp_path / "other")
    assert any(
        name.startswith(".out.psomerge-") for name in left(tmp_path)
    )  # not a writer to this place: none of its business
    copy(toy, tmp_path / "out")
    assert not any(name.startswith(".") for name in left(tmp_path))


def test_a_writer_that_still_works_is_not_disturbed_and_the_second_to_finish_yields(
    tmp_path: Path, toy: Checkpoint
) -> None:
    def slow() -> Iterator[tuple[str, torch.Tensor]]:
        yield from stream(toy)
        copy(toy, tmp_path / "out")

    with pytest.raises(ConfigError, match="Directory not empty"):
        write_checkpoint(tmp_path / "out", slow(), toy, toy, "base")
    assert same(loaded(tmp_path / "out"), loaded(toy.folder))
    assert left(tmp_path) == ["config.json", "model.safetensors", "out"]


def test_memory_is_one_tensor_whatever_the_model(tmp_path: Path) -> None:
    names = [f"layers.{i}.w" for i in range(8)]
    base = open_checkpoint(toy_checkpoint(tmp_path / "toy", {name: torch.zeros(2**16) for name in names}))
    alive: list[int] = []

    def counting() -> Iterator[tuple[str, torch.Tensor]]:
        given: list[weakref.ref] = []
        for name in names:
            alive.append(sum(ref() is not None for ref in given))
            tensor = torch.ones(2**16)
            given.append(weakref.ref(tensor))
            yield name, tensor
            del tensor

    write_checkpoint(tmp_path / "out", counting(), base, base, "base")
    # When the next one is made, only the writer's own name for the last may still be there.
    assert max(alive) <= 1


def descriptors() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename"])
def test_a_failed_write_keeps_no_file_open(
    tmp_path: Path, toy: Checkpoint, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # The first wrong version opened the shard, failed on its header and never closed it: the full disk could not even
    # be unmounted.
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SpaceError) as caught:
        copy(toy, tmp_path / "out")
    assert not [path for path in descriptors() if "out.psomerge-" in path], caught.value
