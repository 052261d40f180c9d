"""The reader takes what transformers writes and refuses everything else with one line."""

import json
import os
import socket
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file

from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.errors import ArtefactError

SAFE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def simple(folder: Path, **config: object) -> Path:
    return toy_checkpoint(
        folder, {"a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b.weight": torch.ones(4)}, config
    )


def raw(folder: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """A checkpoint whose safetensors file has exactly this header (JSON data, or bytes) and these bytes behind it."""
    simple(folder)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / SAFE).write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return folder


def entry(shape: list, begin: int, end: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def sharded(folder: Path) -> Path:
    """Two shards with one tensor each, and their index."""
    from safetensors.torch import save_file

    folder.mkdir()
    names = {"a.weight": "model-00001-of-00002.safetensors", "b.weight": "model-00002-of-00002.safetensors"}
    for name, file in names.items():
        save_file({name: torch.ones(2)}, str(folder / file))
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    return folder


def with_index(folder: Path, change: Callable[[dict], object]) -> Path:
    sharded(folder)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    change(weight_map)
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    return folder


def changed(folder: Path, change: Callable[[Path], object]) -> Path:
    change(simple(folder))
    return folder


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may have 107 characters only
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def only(folder: Path, name: str, content: bytes = b"x") -> None:
    (folder / SAFE).unlink()
    (folder / name).write_bytes(content)


def keep(folder: Path, size: int) -> None:
    (folder / SAFE).write_bytes((folder / SAFE).read_bytes()[:size])


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing folder": (lambda f: None, "no such folder"),
    "a file": (lambda f: f.write_text("x"), "not a folder"),
    "no config": (lambda f: changed(f, lambda d: (d / "config.json").unlink()), "has no config.json"),
    "config no JSON": (lambda f: changed(f, lambda d: (d / "config.json").write_text("{")), "not valid JSON"),
    "config a list": (
        lambda f: changed(f, lambda d: (d / "config.json").write_text("[]")),
        "expected a JSON object, found list",
    ),
    "config not UTF-8": (
        lambda f: changed(f, lambda d: (d / "config.json").write_bytes(b'{"a": "\xff"}')),
        "not UTF-8",
    ),
    "config key twice": (
        lambda f: changed(f, lambda d: (d / "config.json").write_text('{"a": 1, "a": 2}')),
        "key 'a' stands there twice",
    ),
    "config nested deeply": (
        lambda f: changed(f, lambda d: (d / "config.json").write_text('{"a":' + "[" * 100_000)),
        "not valid JSON",
    ),
    "config a giant number": (
        lambda f: changed(f, lambda d: (d / "config.json").write_text('{"a":' + "9" * 5000 + "}")),
        "not valid JSON",
    ),
    "config huge": (
        lambda f: changed(f, lambda d: (d / "config.json").write_bytes(b" " * (2**22 + 1))),
        "expected at most",
    ),
    "config a folder": (lambda f: changed(f, lambda d: replaced(d / "config.json", Path.mkdir)), "is a folder"),
    "no architectures": (lambda f: simple(f, architectures=[]), "expected architectures"),
    "no model_type": (lambda f: simple(f, model_type=7), "expected model_type"),
    "unknown config dtype": (
        lambda f: simple(f, torch_dtype="float8_e4m3fn"),
        "torch_dtype is 'float8_e4m3fn', expected one of",
    ),
    "quantised": (lambda f: simple(f, quantization_config={"bits": 4}), "is quantised"),
    "remote code": (lambda f: simple(f, auto_map={"AutoModel": "evil.Evil"}), "asks for remote code"),
    "remote code inside": (
        lambda f: simple(f, text_config={"auto_map": {}}),
        "asks for remote code (text_config.auto_map)",
    ),
    "remote tokenizer": (
        lambda f: changed(f, lambda d: (d / "tokenizer_config.json").write_text('{"auto_map": {}}')),
        "asks for remote code",
    ),
    "no weights": (lambda f: changed(f, lambda d: (d / SAFE).unlink()), "found no weights"),
    "other name": (lambda f: changed(f, lambda d: only(d, "weights.safetensors")), "found 'weights.safetensors'"),
    "pickle": (lambda f: changed(f, lambda d: only(d, "pytorch_model.bin")), 'save_pretrained("CONVERTED")'),
    "pickle in shards": (lambda f: changed(f, lambda d: only(d, "pytorch_model-00001-of-00002.bin")), "never opened"),
    "empty file": (lambda f: changed(f, lambda d: keep(d, 0)), "truncated"),
    "seven bytes": (lambda f: changed(f, lambda d: keep(d, 7)), "truncated"),
    "cut in the header": (lambda f: changed(f, lambda d: keep(d, 20)), "truncated"),
    "cut in the data": (lambda f: changed(f, lambda d: keep(d, (d / SAFE).stat().st_size - 1)), "truncated: tensor"),
    "bytes behind": (
        lambda f: changed(f, lambda d: (d / SAFE).write_bytes((d / SAFE).read_bytes() + b"x")),
        "expected nothing behind",
    ),
    "giant header": (lambda f: raw(f, {}, length=2**62), "header of 4611686018427387904 bytes"),
    "header no JSON": (lambda f: raw(f, b"pickle!!"), "not valid JSON"),
    "header a list": (lambda f: raw(f, []), "expected a JSON object"),
    "tensor twice": (
        lambda f: raw(
            f,
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
            b"x",
        ),
        "twice",
    ),
    "no tensor": (lambda f: raw(f, {"__metadata__": {"format": "pt"}}), "holds no tensor"),
    "metadata no texts": (
        lambda f: raw(f, {"__metadata__": {"format": 1}, "a": entry([1], 0, 4)}, bytes(4)),
        "__metadata__",
    ),
    "unprintable name": (lambda f: raw(f, {"a\x1b[2J": entry([1], 0, 4)}, bytes(4)), "unprintable"),
    "half a character": (lambda f: raw(f, {"a\ud800": entry([1], 0, 4)}, bytes(4)), "unprintable"),
    "unknown key": (lambda f: raw(f, {"a": entry([1], 0, 4) | {"stride": 1}}, bytes(4)), "needs exactly"),
    "entry a number": (lambda f: raw(f, {"a": 1}, bytes(4)), "needs exactly"),
    "unknown dtype": (
        lambda f: raw(f, {"a": entry([1], 0, 1, "F8_E4M3")}, bytes(1)),
        "has dtype 'F8_E4M3', expected one of",
    ),
    "dtype a list": (lambda f: raw(f, {"a": entry([1], 0, 4, ["F32"])}, bytes(4)), "expected one of"),  # type: ignore[arg-type]
    "negative shape": (lambda f: raw(f, {"a": entry([-1, -1], 0, 4)}, bytes(4)), "whole numbers"),
    "shape of truth": (lambda f: raw(f, {"a": entry([True], 0, 4)}, bytes(4)), "whole numbers"),
    "shape of floats": (lambda f: raw(f, {"a": entry([1.0], 0, 4)}, bytes(4)), "whole numbers"),
    "nine dimensions": (lambda f: raw(f, {"a": entry([1] * 9, 0, 4)}, bytes(4)), "at most 8"),
    "three offsets": (
        lambda f: raw(f, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, bytes(4)),
        "two data_offsets",
    ),
    "shape against bytes": (lambda f: raw(f, {"a": entry([2], 0, 4)}, bytes(4)), "takes 8 bytes"),
    "shape that overflows": (lambda f: raw(f, {"a": entry([2**62, 2**62, 16], 0, 0)}), "data_offsets say 0"),
    "out of range": (lambda f: raw(f, {"a": entry([250], 0, 1000)}, bytes(4)), "ends at byte"),
    "overlap": (lambda f: raw(f, {"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "overlaps"),
    "hole": (lambda f: raw(f, {"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "hole"),
    "hole at the start": (lambda f: raw(f, {"a": entry([1], 4, 8)}, bytes(8)), "hole"),
    "absurd count": (
        lambda f: raw(f, b"{" + b",".join(b'"%d":0' % i for i in range(200_001)) + b"}"),
        "declares 200001 tensors",
    ),
    "weights a link": (
        lambda f: changed(f, lambda d: replaced(d / SAFE, lambda p: p.symlink_to("/etc/passwd"))),
        "cp -rL",
    ),
    "config a link inside": (
        lambda f: changed(f, lambda d: ((d / "config.json").rename(d / "x"), (d / "config.json").symlink_to("x"))),
        "symbolic link",
    ),
    "a spare link": (lambda f: changed(f, lambda d: (d / "notes").symlink_to("nowhere")), "symbolic link"),
    "weights a FIFO": (lambda f: changed(f, lambda d: replaced(d / SAFE, os.mkfifo)), "is a FIFO"),
    "config a FIFO": (lambda f: changed(f, lambda d: replaced(d / "config.json", os.mkfifo)), "is a FIFO"),
    "weights a socket": (lambda f: changed(f, lambda d: replaced(d / SAFE, make_socket)), "is a socket"),
    "weights a folder": (lambda f: changed(f, lambda d: replaced(d / SAFE, Path.mkdir)), "is a folder"),
    "index outside": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "../outside.safetensors"})),
        "points outside the folder",
    ),
    "index absolute": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "/etc/passwd"})),
        "points outside the folder",
    ),
    "index into a sub-folder": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "x/y.safetensors"})),
        "points outside the folder",
    ),
    "index to the folder": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": ".."})),
        "points outside the folder",
    ),
    "index to a pickle": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "pytorch_model.bin"})),
        "expected a .safetensors file",
    ),
    "index to nothing": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "model-00009-of-00002.safetensors"})),
        "which the folder lacks",
    ),
    "index names too much": (
        lambda f: with_index(f, lambda m: m.update({"c.weight": m["a.weight"]})),
        "but no shard does",
    ),
    "index names too little": (lambda f: changed_index_extra(f), "does not name"),
    "index swaps files": (lambda f: with_index(f, swap), "but model-0000"),
    "index forgets a shard": (
        lambda f: with_index(f, lambda m: m.pop("b.weight")),
        "is not in model.safetensors.index.json",
    ),
    "index empty": (lambda f: with_index(f, lambda m: m.clear()), "expected weight_map"),
    "index with numbers": (lambda f: with_index(f, lambda m: m.update({"a.weight": 1})), "expected weight_map"),
    "index with a key twice": (
        lambda f: (sharded(f) / INDEX).write_text('{"weight_map": {}, "weight_map": {}}'),
        "stands there twice",
    ),
    "index missing": (lambda f: (sharded(f) / INDEX).unlink(), "no model.safetensors.index.json"),
    "index and single file": (
        lambda f: (sharded(f) / "model-00001-of-00002.safetensors").rename(f / SAFE),
        "holds both",
    ),
    "index to an unprintable name": (
        lambda f: with_index(f, lambda m: m.update({"a.weight": "a\n.safetensors"})),
        "expected a .safetensors file",
    ),
    "shards beside a single file": (
        lambda f: changed(f, lambda d: (d / "model-00001-of-00002.safetensors").write_bytes(b"")),
        "holds both",
    ),
    "megabytes in place of a name": (lambda f: simple(f, model_type=["x" * 1_000_000]), "expected model_type"),
    "tensor in two shards": (lambda f: twice(sharded(f)), "stands in both"),
}


def changed_index_extra(folder: Path) -> None:
    from safetensors.torch import save_file

    sharded(folder)
    save_file(
        {"a.weight": torch.ones(2), "extra.weight": torch.ones(2)}, str(folder / "model-00001-of-00002.safetensors")
    )


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "v_head.summary.weight"])
def test_what_no_class_takes_may_stand_in_the_index_or_in_a_shard_alone(tmp_path: Path, name: str) -> None:
    from safetensors.torch import save_file

    listed = with_index(tmp_path / "listed", lambda m: m.update({name: m["a.weight"]}))
    assert set(open_checkpoint(listed).tensors) == {"a.weight", "b.weight"}
    held = sharded(tmp_path / "held")
    save_file({"a.weight": torch.ones(2), name: torch.ones(2)}, str(held / "model-00001-of-00002.safetensors"))
    assert set(open_checkpoint(held).tensors) == {"a.weight", "b.weight", name}


def swap(weight_map: dict) -> None:
    weight_map["a.weight"], weight_map["b.weight"] = weight_map["b.weight"], weight_map["a.weight"]


def twice(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a.weight": torch.ones(2), "b.weight": torch.ones(2)}, str(folder / "model-00002-of-00002.safetensors"))


@pytest.mark.parametrize("case", REFUSALS)
def test_a_broken_or_unsafe_folder_is_refused_with_one_line(case: str, tmp_path: Path) -> None:
    build, phrase = REFUSALS[case]
    build(tmp_path / "expert")
    with pytest.raises(ArtefactError) as caught:
        open_checkpoint(tmp_path / "expert")
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert str(tmp_path / "expert") in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
def test_a_device_is_refused(tmp_path: Path) -> None:
    simple(tmp_path / "expert")
    (tmp_path / "expert" / SAFE).unlink()
    try:
        os.mknod(tmp_path / "expert" / SAFE, 0o20644, os.makedev(1, 5))  # /dev/zero: reading it would never end
    except PermissionError:
        pytest.skip("this container makes no device nodes")
    with pytest.raises(ArtefactError, match="is a device"):
        open_checkpoint(tmp_path / "expert")


def test_a_link_to_the_folder_itself_is_followed_because_the_user_named_it(tmp_path: Path) -> None:
    simple(tmp_path / "real")
    (tmp_path / "alias").symlink_to("real")
    assert open_checkpoint(tmp_path / "alias").tensors.keys() == {"a.weight", "b.weight"}


def test_pickles_and_code_beside_safetensors_are_left_alone(tmp_path: Path) -> None:
    folder = simple(tmp_path / "expert")
    (folder / "pytorch_model.bin").write_bytes(b"not opened")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "original").mkdir()
    (folder / "original" / "link").symlink_to("/")
    assert open_checkpoint(folder).tensors.keys() == {"a.weight", "b.weight"}


def test_a_damaged_header_says_what_it_is_even_when_the_name_is_long(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        open_checkpoint(raw(tmp_path / "expert", {"n" * 10_000: entry([1], 0, 4)}, bytes(4)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
def test_what_transformers_writes_is_read_with_equal_bits(tmp_path: Path, dtype: torch.dtype, tied: bool) -> None:
    folder = tiny_llama(tmp_path / "base", dtype=dtype, tied=tied, layers=11)
    checkpoint = open_checkpoint(folder, "base")
    expected = load_file(folder / SAFE)
    assert checkpoint.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert checkpoint.tensors[name].dtype == dtype
        assert torch.equal(checkpoint.tensor(name), tensor)
    assert checkpoint.tied is tied
    assert checkpoint.name == "base"


def test_tensors_come_in_layer_order(tmp_path: Path) -> None:
    names = list(open_checkpoint(tiny_llama(tmp_path / "base", tied=False, layers=11)).tensors)
    layers = [int(name.split(".")[2]) for name in names if ".layers." in name]
    assert names[0] == "model.embed_tokens.weight"
    assert layers == sorted(layers)
    assert names[-2:] == ["model.norm.weight", "lm_head.weight"]


def test_rows_are_a_view_of_the_same_memory(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(simple(tmp_path / "base"))
    whole, rows = checkpoint.tensor("a.weight"), checkpoint.tensor("a.weight", slice(1, 2))
    assert rows.tolist() == [[3.0, 4.0, 5.0]]
    assert rows.data_ptr() == whole.data_ptr() + 3 * 4


def test_reading_gives_no_warning_and_writing_to_a_view_never_reaches_the_file(tmp_path: Path) -> None:
    folder = simple(tmp_path / "base")
    before = (folder / SAFE).read_bytes()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_checkpoint(folder).tensor("a.weight").zero_()
    assert not caught
    assert (folder / SAFE).read_bytes() == before


def test_a_tensor_outlives_its_checkpoint(tmp_path: Path) -> None:
    tensor = open_checkpoint(simple(tmp_path / "base")).tensor("a.weight")
    assert tensor.sum().item() == 15.0  # 0 + 1 + ... + 5


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r'"tam" .* has no tensor .lm_head.weight.'):
        open_checkpoint(simple(tmp_path / "base"), "tam").tensor("lm_head.weight")


def test_integer_buffers_scalars_and_empty_tensors_are_read(tmp_path: Path) -> None:
    tensors = {
        "x": torch.tensor(3.5),
        "ids": torch.tensor([1, -2]),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 4),
    }
    checkpoint = open_checkpoint(toy_checkpoint(tmp_path / "base", tensors))
    for name, tensor in tensors.items():
        assert checkpoint.tensor(name).dtype == tensor.dtype
        assert torch.equal(checkpoint.tensor(name), tensor)


def test_a_float_at_an_odd_address_is_read_correctly(tmp_path: Path) -> None:
    values = np.array([1.5, -2.25], dtype="<f4")
    folder = raw(
        tmp_path / "base", {"flag": entry([1], 0, 1, "BOOL"), "x": entry([2], 1, 9)}, b"\x01" + values.tobytes()
    )
    tensor = open_checkpoint(folder).tensor("x")
    assert tensor.tolist() == [1.5, -2.25]
    assert tensor.data_ptr() % 4 == 0


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(sharded(tmp_path / "base"))
    assert [info.file for info in checkpoint.tensors.values()] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert checkpoint.tensor("b.weight").tolist() == [1.0, 1.0]


def headed(folder: Path, head: torch.Tensor | None, tie: bool) -> Path:
    tensors = {"model.embed_tokens.weight": torch.ones(3, 2)} | ({} if head is None else {"lm_head.weight": head})
    return toy_checkpoint(folder, tensors, {"tie_word_embeddings": tie})


def test_a_stored_copy_of_a_tied_head_is_left_out(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(headed(tmp_path / "base", torch.ones(3, 2), True))
    assert list(checkpoint.tensors) == ["model.embed_tokens.weight"]
    assert checkpoint.tied


def test_a_tied_head_that_differs_from_the_embedding_is_refused_for_loaders_disagree_about_it(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="hold two different ones"):
        open_checkpoint(headed(tmp_path / "base", torch.zeros(3, 2), True))


def test_an_untied_model_without_head_is_refused_for_loaders_would_make_one_up(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"has no 'lm_head.weight'"):
        open_checkpoint(headed(tmp_path / "base", None, False))


def indexed(folder: Path, stored: dict[str, torch.Tensor], listed: list[str], **config: object) -> Path:
    """One shard, and an index that lists some names of it."""
    from safetensors.torch import save_file

    folder.mkdir()
    shard = "model-00001-of-00001.safetensors"
    save_file(stored, str(folder / shard))
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(listed, shard)}))
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"} | config)
    )
    return folder


EMBEDDED = {"model.embed_tokens.weight": torch.ones(3, 2), "model.norm.weight": torch.ones(2)}
HEAD = {"lm_head.weight": torch.ones(3, 2)}
SHARED = {"shared.weight": torch.ones(3, 2)}


@pytest.mark.parametrize(
    ("stored", "listed", "config"),
    [
        (EMBEDDED, [*EMBEDDED, *HEAD], {"tie_word_embeddings": True}),
        (EMBEDDED, [*EMBEDDED, *HEAD], {"model_type": "gemma2"}),  # the class ties them
        (EMBEDDED, [*EMBEDDED, *HEAD], {"model_type": "newer"}),  # a class that nobody knows may
        ({"transformer.wte.weight": torch.ones(3, 2)}, ["transformer.wte.weight", *HEAD], {"model_type": "gpt2"}),
        ({**EMBEDDED, **HEAD}, [*EMBEDDED], {"tie_word_embeddings": True}),
        (
            SHARED,
            ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", *HEAD],
            {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"},
        ),
    ],
)
def test_an_index_may_list_or_forget_a_copy_of_the_embedding(
    tmp_path: Path, stored: dict[str, torch.Tensor], listed: list[str], config: dict[str, object]
) -> None:
    checkpoint = open_checkpoint(indexed(tmp_path / "base", stored, listed, **config))
    assert checkpoint.tensors.keys() == stored.keys() - HEAD.keys()
    assert checkpoint.tied


@pytest.mark.parametrize(
    ("stored", "listed", "phrase"),
    [
        (EMBEDDED, [*EMBEDDED, *HEAD], "fetch the shards again, or set it to true if the head is 'model.embed_tokens"),
        (HEAD, [*HEAD, "model.embed_tokens.weight"], "'model.embed_tokens.weight', but no shard does; the index is of"),
        (SHARED, ["shared.weight", "encoder.norm.weight"], "fetch both again from one place, or save the model again"),
    ],
)
def test_what_an_index_lists_and_is_no_copy_must_be_there(
    tmp_path: Path, stored: dict[str, torch.Tensor], listed: list[str], phrase: str
) -> None:
    with pytest.raises(ArtefactError, match=phrase):
        open_checkpoint(indexed(tmp_path / "base", stored, listed, tie_word_embeddings=False))


def read_all(checkpoint: Checkpoint) -> dict[str, bytes]:
    return {
        name: checkpoint.tensor(name).reshape(-1).view(torch.uint8).numpy().tobytes() for name in checkpoint.tensors
    }


SOUND = json.dumps(
    {"__metadata__": {"format": "pt"}, "a": entry([2, 2], 0, 8, "BF16"), "b": entry([3], 8, 11, "U8")},
    separators=(",", ":"),
).encode()


@settings(max_examples=300, deadline=None, database=None)
@given(
    st.lists(st.tuples(st.integers(0, 7 + len(SOUND)), st.integers(0, 255)), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(0, 18 + len(SOUND))),
)
@example([(0, 0)], None)
@example([(9, 0x22)], None)
def test_whatever_happens_to_the_header_the_file_is_refused_or_read_as_safetensors_reads_it(
    changes: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(len(SOUND).to_bytes(8, "little") + SOUND + bytes(range(11)))
    for position, value in changes:
        content[position] = value
    with tempfile.TemporaryDirectory() as place:
        folder = simple(Path(place) / "expert")
        (folder / SAFE).write_bytes(content[:cut])
        try:
            ours = read_all(open_checkpoint(folder))
        except ArtefactError:
            return
        try:
            theirs = load_file(folder / SAFE)
        except SafetensorError as error:
            pytest.fail(f"we read what safetensors refuses: {error}")
        assert ours == {name: tensor.reshape(-1).view(torch.uint8).numpy().tobytes() for name, tensor in theirs.items()}


@settings(max_examples=60, deadline=None, database=None)
@given(st.binary(max_size=200))
def test_no_bytes_in_a_config_raise_anything_but_our_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = simple(Path(place) / "expert")
        (folder / "config.json").write_bytes(content)
        with pytest.raises(ArtefactError):
            open_checkpoint(folder)


@pytest.mark.parametrize(
    ("make", "phrase"),
    [(os.mkfifo, "is a FIFO"), (lambda path: os.symlink("/etc/passwd", path), "is a symbolic link")],
    ids=["FIFO", "link"],
)
@pytest.mark.parametrize("name", [SAFE, "config.json"])
def test_a_file_exchanged_after_the_folder_was_listed_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], phrase: str, name: str
) -> None:
    folder = simple(tmp_path / "expert")
    genuine = os.open

    def exchanging(path: Path, flags: int, *rest: int) -> int:
        if Path(path).name == name:
            replaced(Path(path), make)
        return genuine(path, flags, *rest)

    monkeypatch.setattr(os, "open", exchanging)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ArtefactError, match=phrase):
        open_checkpoint(folder)
    assert len(os.listdir("/proc/self/fd")) == before


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def rewritten(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (appended, "changed while it was used"),
        (rewritten, "changed while it was used"),
        (lambda path: replaced(path, lambda place: place.write_bytes(b"")), "changed while it was used"),
        (Path.unlink, "is gone while it is used"),
    ],
    ids=["longer", "same length", "exchanged", "deleted"],
)
def test_a_file_that_changes_after_it_was_opened_is_noticed(
    tmp_path: Path, change: Callable[[Path], object], phrase: str
) -> None:
    folder = simple(tmp_path / "expert")
    checkpoint = open_checkpoint(folder, "tam")
    checkpoint.check_unchanged()
    change(folder / SAFE)
    with pytest.raises(ArtefactError, match=f'^"tam": .*{SAFE} {phrase}'):
        checkpoint.check_unchanged()
