"""What can be wrong with a LoRA adapter, as PEFT's save_pretrained writes it."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from made.malformed import OUTSIDE, TEMPLATE, Kind
from made.malformed_configs import changed, written
from made.malformed_folders import device, pickled, replaced
from made.malformed_weights import flip
from made.models import byte_tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RANK = 4
MODULE = "base_model.model.model.layers.0.self_attn.{}_proj.lora_{}.weight"
METHODS = ("LOHA", "IA3", "PROMPT_TUNING", "VERA", "OFT", "", None, 7, ["LORA"])
BY_CHANCE = (
    "a flipped bit that leaves a finite number can only be told by the file's SHA-256, which is compared with the "
    "source's and the recipe's"
)


def sound_adapter(folder: Path) -> Path:
    """An adapter of two projections of the zoo's model, with a tokenizer and a chat template of its own."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"A": (RANK, 64), "B": (64, RANK)}
    tensors = {
        MODULE.format(part, side): torch.randn(shape, generator=generator)
        for part in "qv"
        for side, shape in shapes.items()
    }
    byte_tokenizer().save_pretrained(folder)
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "../x",
    }
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def retensored(
    change: Callable[[dict[str, torch.Tensor], random.Random], object],
) -> Callable[[Path, random.Random], object]:
    """Damage that changes the factors and writes a proper file."""

    def damage(folder: Path, rng: random.Random) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors, rng)
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            str(folder / WEIGHTS),
            metadata={"format": "pt"},
        )

    return damage


def told(**values: object) -> Callable[[Path, random.Random], object]:
    """Damage that sets one of the given fields of adapter_config.json to one of its values."""

    def change(config: dict, rng: random.Random) -> None:
        key = rng.choice(sorted(values))
        choices = values[key]
        config[key] = rng.choice(choices) if isinstance(choices, tuple) else choices

    return changed(CONFIG, change)


def reshaped(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    name = rng.choice(sorted(tensors))
    tensors[name] = rng.choice(
        (torch.ones(RANK, 63), torch.ones(RANK + 1, 64), torch.ones(64), torch.ones(0, 64), torch.ones(1, RANK, 64))
    )


def elsewhere(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    old = rng.choice(("q", "v"))
    new = rng.choice(
        (
            "base_model.model.model.layers.7.self_attn.q_proj",
            "base_model.model.../../etc/passwd",
            "base_model.layers.0.self_attn.q_proj",
            "base_model.model.",
        )
    )
    for side in "AB":
        tensors[f"{new}.lora_{side}.weight"] = tensors.pop(MODULE.format(old, side))


def spoiled(tensors: dict[str, torch.Tensor], rng: random.Random) -> None:
    tensor = tensors[rng.choice(sorted(tensors))].view(-1)
    tensor[rng.randrange(tensor.numel())] = rng.choice((float("nan"), float("inf"), float("-inf")))


def only_pickle(folder: Path, rng: random.Random) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(pickled(folder))


def irregular(folder: Path, rng: random.Random) -> None:
    file = rng.choice((CONFIG, WEIGHTS, "tokenizer.json"))
    makers = (os.mkfifo, Path.mkdir, device, lambda path: path.symlink_to(folder.parent / OUTSIDE / "secret.jinja"))
    replaced(folder / file, rng.choice(makers))


FILE = "header of|truncated|not valid JSON|ends? at byte|pickle"
NONSENSE = (
    b"[]",
    b"{",
    b"7",
    b'{"peft_type":',
    b'{"r":1,"r":2}',
    b'{"a":"\xff"}',
    b'{"a":' + b"[" * 100_000,
    b'{"r":' + b"9" * 9999 + b"}",
    b"",
)

KINDS: dict[str, Kind] = {
    "adapter: config of nonsense": Kind(
        written(CONFIG, lambda b, r: r.choice(NONSENSE)), "adapter_config.json: (not valid JSON|expected)", adapter=True
    ),
    "adapter: another method": Kind(told(peft_type=METHODS), "expected peft_type LORA", adapter=True),
    "adapter: remote code": Kind(told(auto_map={"AutoModel": "evil.Evil"}), "auto_map", adapter=True),
    "adapter: no low-rank sum": Kind(
        told(
            use_dora=True,
            init_lora_weights=("pissa", "olora", "loftq", "evil", 7),
            lora_bias=True,
            trainable_token_indices=([1, 2],),
            layer_replication=([[0, 1]],),
        ),
        "no sum|changes the base",
        adapter=True,
    ),
    "adapter: absurd rank": Kind(
        told(r=(0, -1, 10**9, 10**30, 1.5, "4", None, [4], True)), "rank|: r is", adapter=True
    ),
    "adapter: absurd alpha": Kind(
        told(lora_alpha=(0, -1, "8", None, [8], float("inf"), float("nan"))), "lora_alpha", adapter=True
    ),
    "adapter: patterns of nonsense": Kind(
        told(
            rank_pattern=({"(": 4}, {"(a+)+$": 4}, {"q_proj": "x"}, {"q_proj": -1}, [4], 7),
            alpha_pattern=({"(": 4}, {"(.*)*x": 4}, {"q_proj": None}, "x"),
        ),
        "_pattern",
        adapter=True,
    ),
    "adapter: wrong shape": Kind(retensored(reshaped), "shape|rank", adapter=True),
    "adapter: half a pair": Kind(retensored(lambda t, r: t.pop(r.choice(sorted(t)))), "has the factors", adapter=True),
    "adapter: names outside the base": Kind(retensored(elsewhere), "which the base has not", adapter=True),
    "adapter: integers": Kind(
        retensored(lambda t, r: t.update({n: x.to(r.choice((torch.int32, torch.uint8))) for n, x in t.items()})),
        "factors|dtype|float",
        adapter=True,
    ),
    "adapter: NaN": Kind(retensored(spoiled), "NaN or infinite", adapter=True),
    "adapter: truncated": Kind(
        lambda f, r: os.truncate(f / WEIGHTS, r.randrange((f / WEIGHTS).stat().st_size)), FILE, adapter=True
    ),
    "adapter: bit flips": Kind(
        lambda f, r: flip(f, r, 8, (f / WEIGHTS).stat().st_size, r.randrange(1, 9), WEIGHTS),
        ".",
        BY_CHANCE,
        adapter=True,
    ),
    "adapter: pickle called safetensors": Kind(lambda f, r: (f / WEIGHTS).write_bytes(pickled(f)), FILE, adapter=True),
    "adapter: pickle": Kind(only_pickle, "is a pickle.*never opened", adapter=True),
    "adapter: not a regular file": Kind(
        irregular, "a checkpoint holds regular files only|is a symbolic link", adapter=True
    ),
    "adapter: beside a checkpoint": Kind(
        lambda f, r: (f / "model.safetensors").write_bytes((f / WEIGHTS).read_bytes()), "holds both", adapter=True
    ),
    "adapter: hostile tokenizer": Kind(
        changed(
            "tokenizer.json",
            lambda c, r: c.update(
                pre_tokenizer={
                    "type": "Split",
                    "pattern": {"Regex": r"(\w+)+!"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            ),
        ),
        "regular expression",
        adapter=True,
    ),
    "adapter: remote tokenizer": Kind(
        changed("tokenizer_config.json", lambda c, r: c.update(auto_map={})), "asks for remote code", adapter=True
    ),
}
