"""What can be wrong with a file of weights."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from made.malformed import Kind

SAFE = "model.safetensors"
VALUES_ONLY = (
    "a flipped bit that leaves a finite number can only be told by the file's SHA-256, which is compared with the "
    "source's and the recipe's"
)
TEXT_ONLY = "a flipped bit in the text of __metadata__ or in the padding changes nothing that is used"


def split(content: bytes) -> tuple[int, dict, bytes]:
    """Length of the header, header, and bytes of the tensors."""
    length = int.from_bytes(content[:8], "little")
    return length, json.loads(content[8 : 8 + length]), content[8 + length :]


def rewritten(change: Callable[[dict, random.Random], object]) -> Callable[[Path, random.Random], object]:
    """Damage that changes the header's entries and keeps the bytes of the tensors."""

    def damage(folder: Path, rng: random.Random) -> None:
        _, header, data = split((folder / SAFE).read_bytes())
        changed = change(header, rng)
        text = changed if isinstance(changed, bytes) else json.dumps(header).encode()
        (folder / SAFE).write_bytes(len(text).to_bytes(8, "little") + text + data)

    return damage


def retensored(
    change: Callable[[dict[str, torch.Tensor], random.Random], object],
) -> Callable[[Path, random.Random], object]:
    """Damage that changes the tensors and writes a proper file."""

    def damage(folder: Path, rng: random.Random) -> None:
        tensors = load_file(folder / SAFE)
        change(tensors, rng)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            str(folder / SAFE),
            metadata={"format": "pt"},
        )

    return damage


def flip(folder: Path, rng: random.Random, start: int, end: int, bits: int, file: str = SAFE) -> None:
    content = bytearray((folder / file).read_bytes())
    for _ in range(bits):
        content[rng.randrange(start, end)] ^= 1 << rng.randrange(8)
    (folder / file).write_bytes(content)


def header_end(folder: Path) -> int:
    return 8 + int.from_bytes((folder / SAFE).read_bytes()[:8], "little")


def one(header: dict, rng: random.Random) -> dict:
    return header[rng.choice([name for name in header if name != "__metadata__"])]


def shift(header: dict, rng: random.Random, by: int) -> None:
    entries = sorted((entry["data_offsets"][0], name) for name, entry in header.items() if name != "__metadata__")
    for _, name in entries[rng.randrange(1, len(entries)) :]:
        header[name]["data_offsets"] = [offset + by for offset in header[name]["data_offsets"]]


def renamed(header: dict, rng: random.Random, name: str) -> None:
    header[name] = header.pop(rng.choice([name for name in header if name != "__metadata__"]))


def many(header: dict, rng: random.Random) -> bytes:
    """Hundreds of thousands of tensors without a byte; the stock loader takes half a minute over them."""
    return (
        b"{"
        + b",".join(
            b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(rng.choice((200_001, 300_000)))
        )
        + b"}"
    )


def spoiled(tensors: dict[str, torch.Tensor], rng: random.Random, value: float) -> None:
    tensor = tensors[rng.choice(sorted(tensors))].view(-1)
    tensor[rng.randrange(tensor.numel())] = value


KINDS: dict[str, Kind] = {
    "truncated": Kind(lambda f, r: os.truncate(f / SAFE, r.randrange((f / SAFE).stat().st_size)), "truncated"),
    "bytes behind": Kind(
        lambda f, r: (f / SAFE).write_bytes((f / SAFE).read_bytes() + r.randbytes(r.randrange(1, 99))), "nothing behind"
    ),
    "bit flip in the header's length": Kind(
        lambda f, r: flip(f, r, 0, 8, 1), "header of|truncated|not valid JSON|Extra data|ends? at byte"
    ),
    "absurd header length": Kind(
        lambda f, r: (f / SAFE).write_bytes(
            r.choice((2**63, 2**64 - 1, 2**40, 2**24)).to_bytes(8, "little") + (f / SAFE).read_bytes()[8:]
        ),
        "header of|truncated",
    ),
    "bit flips in the header": Kind(lambda f, r: flip(f, r, 8, header_end(f), r.randrange(1, 4)), ".", TEXT_ONLY),
    "bit flips in the values": Kind(
        lambda f, r: flip(f, r, header_end(f), (f / SAFE).stat().st_size, r.randrange(1, 9)),
        "NaN or infinite",
        VALUES_ONLY,
    ),
    "random bytes in the header": Kind(
        lambda f, r: (f / SAFE).write_bytes(
            (f / SAFE).read_bytes()[:8] + r.randbytes(header_end(f) - 8) + (f / SAFE).read_bytes()[header_end(f) :]
        ),
        "not valid JSON",
    ),
    "overlap": Kind(rewritten(lambda h, r: shift(h, r, -2)), "overlaps|takes"),
    "hole": Kind(rewritten(lambda h, r: shift(h, r, 2)), "hole|truncated"),
    "offsets back to front": Kind(rewritten(lambda h, r: one(h, r)["data_offsets"].reverse()), "takes"),
    "negative or odd offsets": Kind(
        rewritten(
            lambda h, r: one(h, r).update(data_offsets=r.choice(([-1, 4], [0.5, 1], [True, 1], ["0", "1"], None, [])))
        ),
        "offsets",
    ),
    "giant numbers": Kind(
        rewritten(lambda h, r: one(h, r).update(shape=[r.choice((2**63, 2**64, 10**30, 10**4000)), 1])), "whole numbers"
    ),
    "shape that overflows": Kind(rewritten(lambda h, r: one(h, r).update(shape=[2**62, 2**62, 16])), "takes"),
    "wrong dtype code": Kind(
        rewritten(lambda h, r: one(h, r).update(dtype=r.choice(("F8_E4M3", "C64", "Q4", "bf16", 7, None, [], {})))),
        "has dtype",
    ),
    "another dtype of the same width": Kind(
        rewritten(lambda h, r: one(h, r).update(dtype=r.choice(("F16", "I16")))), "in (float16|int16)"
    ),
    "a size of zero": Kind(rewritten(lambda h, r: one(h, r).update(shape=[0, 64])), "takes"),
    "tensor without a size": Kind(
        retensored(lambda t, r: t.update({r.choice(sorted(t)): torch.empty(0, 64, dtype=torch.bfloat16)})), "of shape"
    ),
    "tensor missing": Kind(retensored(lambda t, r: t.pop(r.choice(sorted(t)))), "has no tensor"),
    "tensor too many": Kind(
        retensored(
            lambda t, r: t.update({f"model.layers.{r.randrange(1, 9)}.x.weight": torch.ones(2, dtype=torch.bfloat16)})
        ),
        "the base has not",
    ),
    "wrong shape": Kind(
        retensored(lambda t, r: (k := r.choice(sorted(t))) and t.update({k: t[k].reshape(-1, 2)})), "of shape"
    ),
    "NaN": Kind(retensored(lambda t, r: spoiled(t, r, float("nan"))), "1 values that are NaN or infinite"),
    "infinity": Kind(
        retensored(lambda t, r: spoiled(t, r, r.choice((float("inf"), float("-inf"))))),
        "1 values that are NaN or infinite",
    ),
    "key twice in the header": Kind(
        rewritten(lambda h, r: b'{"__metadata__":{},' + json.dumps(h).encode()[1:]), "stands there twice"
    ),
    "header nested deeply": Kind(
        rewritten(lambda h, r: r.choice((b'{"a":', b"")) + b"[" * r.randrange(10_000, 2_000_000)), "not valid JSON"
    ),
    "hundreds of thousands of tensors": Kind(rewritten(many), "tensors, expected at most"),
    "NUL or newline in a name": Kind(
        rewritten(lambda h, r: renamed(h, r, r.choice(("a\0b", "a\nb", "\x1b[2Jb", "‮b", "\ud800")))), "unprintable"
    ),
    "name of 10 MB": Kind(rewritten(lambda h, r: renamed(h, r, "n" * 10_000_000)), "longer than"),
    "no tensor at all": Kind(rewritten(lambda h, r: b"{}"), "holds no tensor"),
}
