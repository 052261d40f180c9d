"""What can be wrong with the folder that a checkpoint lies in: index, links, what is no regular file, weights in
another form."""

import json
import os
import pickle
import random
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from made.malformed import EXECUTED, OUTSIDE, Kind
from made.malformed_weights import SAFE

INDEX = "model.safetensors.index.json"
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    SAFE,
)


class Payload:
    """Unpickled, it writes a file: proof that code ran."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self._mark}",)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def linked(folder: Path, file: str) -> None:
    target = folder.parent / OUTSIDE / file
    replaced(
        folder / file,
        lambda path: path.symlink_to(target if target.exists() else folder.parent / OUTSIDE / "secret.jinja"),
    )


def sharded(folder: Path) -> tuple[dict[str, str], Path]:
    """Makes two shards and their index of the single file; returns weight_map and index."""
    tensors = load_file(folder / SAFE)
    (folder / SAFE).unlink()
    weight_map = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        save_file(
            {name: tensors[name] for name in weight_map if weight_map[name] == file},
            str(folder / file),
            metadata={"format": "pt"},
        )
    index = folder / INDEX
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return weight_map, index


def indexed(change: Callable[[dict[str, str], random.Random, Path], object]) -> Callable[[Path, random.Random], object]:
    """Damage that makes shards and changes the index's weight_map."""

    def damage(folder: Path, rng: random.Random) -> None:
        weight_map, index = sharded(folder)
        change(weight_map, rng, folder)
        index.write_text(json.dumps({"weight_map": weight_map}))

    return damage


def pointed(*places: str) -> Callable[[Path, random.Random], object]:
    def change(weight_map: dict[str, str], rng: random.Random, folder: Path) -> None:
        weight_map[rng.choice(sorted(weight_map))] = rng.choice(places).replace("OUTSIDE", str(folder.parent / OUTSIDE))

    return indexed(change)


def shard_linked(folder: Path, rng: random.Random) -> None:
    weight_map, _ = sharded(folder)
    linked(folder, rng.choice(sorted(set(weight_map.values()))))


def instead(folder: Path, name: str, content: bytes) -> None:
    (folder / SAFE).unlink()
    (folder / name).write_bytes(content)


def pickled(folder: Path) -> bytes:
    return pickle.dumps({"model.embed_tokens.weight": Payload(folder.parent / OUTSIDE / EXECUTED)})


def zipped(folder: Path, rng: random.Random) -> None:
    """What torch.save writes: a zip archive with a pickle in it."""
    with zipfile.ZipFile(folder / SAFE, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(folder))
        archive.writestr("archive/data/0", rng.randbytes(64))


def gguf(rng: random.Random) -> bytes:
    return b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + rng.randbytes(64)


def only_gguf(folder: Path, rng: random.Random) -> None:
    instead(folder, rng.choice(("model-Q4_K_M.gguf", "ggml-model-f16.gguf")), gguf(rng))
    if rng.random() < 0.5:
        (folder / "config.json").unlink()


def socket_at(path: Path) -> None:
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path may have 107 characters only
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o20644, os.makedev(1, 5))  # /dev/zero: reading it would never end
    except PermissionError:
        os.mkfifo(path)  # without the right to make a device


def crowd(folder: Path, rng: random.Random) -> None:
    for number in range(20_001):
        os.close(os.open(folder / f"{number}.txt", os.O_CREAT | os.O_WRONLY))


NOT_REGULAR = "a checkpoint holds regular files only|is a symbolic link"

KINDS: dict[str, Kind] = {
    "index with a way up": Kind(
        pointed("../outside/model.safetensors", "../../etc/passwd", "a/../../x.safetensors", "..", "."),
        "points outside the folder",
    ),
    "index with an absolute path": Kind(
        pointed("OUTSIDE/model.safetensors", "/etc/passwd", "//x.safetensors"), "points outside the folder"
    ),
    "index with a backslash": Kind(
        pointed("..\\outside\\model.safetensors", "C:\\model.safetensors"), "points outside the folder"
    ),
    "index with a URL": Kind(
        pointed("https://localhost/x.safetensors", "file:OUTSIDE/model.safetensors", "hf://a/b.safetensors"),
        "points outside the folder",
    ),
    "index with a name that is none": Kind(
        pointed("", "x\0.safetensors", "pytorch_model.bin", "x.safetensors\n"), "expected a"
    ),
    "index names a shard that is not there": Kind(
        pointed("model-00003-of-00003.safetensors"), "which the folder lacks"
    ),
    "index of another checkpoint": Kind(
        indexed(lambda m, r, f: r.choice((lambda: m.update(x=next(iter(m.values()))), m.popitem))()),
        "the index is of another",
    ),
    "shard linked to outside": Kind(shard_linked, NOT_REGULAR),
    "link to outside": Kind(lambda f, r: linked(f, r.choice(FILES)), NOT_REGULAR),
    "FIFO": Kind(lambda f, r: replaced(f / r.choice(FILES), os.mkfifo), "is a FIFO"),
    "socket": Kind(lambda f, r: replaced(f / r.choice(FILES), socket_at), "is a socket"),
    "device": Kind(lambda f, r: replaced(f / r.choice(FILES), device), "is a (device|FIFO)"),
    "folder in place of a file": Kind(lambda f, r: replaced(f / r.choice(FILES), Path.mkdir), "is a folder"),
    "more files than a checkpoint has": Kind(crowd, "more than 20000 files"),
    "pickle with a payload": Kind(
        lambda f, r: instead(f, r.choice(("pytorch_model.bin", "model.pt", "a.ckpt")), pickled(f)),
        "pickled weights.*save_pretrained",
    ),
    "pickle called safetensors": Kind(lambda f, r: (f / SAFE).write_bytes(pickled(f)), "header of|pickle"),
    "zip called safetensors": Kind(zipped, "header of|zip"),
    "GGUF called safetensors": Kind(lambda f, r: (f / SAFE).write_bytes(gguf(r)), "header of|GGUF"),
    "GGUF": Kind(only_gguf, "gguf_file=.*save_pretrained"),
}
