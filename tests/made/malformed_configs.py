"""What can be wrong with config.json and generation_config.json."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from made.malformed import Kind

BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
METHODS = (
    *(
        "bitsandbytes",
        "gptq",
        "awq",
        "fp8",
        "compressed-tensors",
        "mxfp4",
        "torchao",
        "hqq",
        "quanto",
        "aqlm",
        "bitnet",
        "auto-round",
    ),
    *("fbgemm_fp8", "modelopt", "gguf", "", 7, None),
)
SIZES = (
    "num_hidden_layers",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


def written(file: str, content: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], object]:
    """Damage that makes a file's new bytes of its old ones."""

    def damage(folder: Path, rng: random.Random) -> None:
        old = (folder / file).read_bytes() if (folder / file).is_file() else b"{}"
        (folder / file).write_bytes(content(old, rng))

    return damage


def changed(file: str, change: Callable[[dict, random.Random], object]) -> Callable[[Path, random.Random], object]:
    """Damage that changes a JSON file's content in place."""

    def content(old: bytes, rng: random.Random) -> bytes:
        data = json.loads(old)
        change(data, rng)
        return json.dumps(data).encode()

    return written(file, content)


def either(*files: str, content: Callable[[bytes, random.Random], bytes]) -> Callable[[Path, random.Random], object]:
    """Damage as `written`, to one of several files."""
    return lambda folder, rng: written(rng.choice(files), content)(folder, rng)


def sparse(path: Path, size: int) -> None:
    """A file of `size` bytes that takes no room on the disk: it begins as JSON and goes on with NULs."""
    path.write_bytes(b'{"version": "1.0", "model": {"vocab": {"')
    os.truncate(path, size)


def flipped(old: bytes, rng: random.Random) -> bytes:
    content = bytearray(old)
    for _ in range(rng.randrange(1, 4)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def nested(depth: int, inside: object) -> dict:
    for _ in range(depth):
        inside = {"inner": inside}
    return {"inner": inside}


def quantised(config: dict, rng: random.Random) -> None:
    section = config if rng.random() < 0.7 else config.setdefault("text_config", {})
    section["quantization_config"] = {"quant_method": rng.choice(METHODS), "bits": 4, "group_size": 128}


def absurd(config: dict, rng: random.Random) -> None:
    config[rng.choice(SIZES)] = rng.choice((10**9, 10**12, 2**63, 10**30, -1, 1.5, "64", True))


CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json")
SAMPLER = (
    *(
        {"temperature": "hot"},
        {"temperature": -1.0, "do_sample": True},
        {"top_k": -5},
        {"num_beams": 10**9},
        {"max_length": 10**18},
    ),
    *(
        {"eos_token_id": "<eos>"},
        {"eos_token_id": [10**12, -1]},
        {"eos_token_id": {"a": 1}},
        {"cache_implementation": "evil"},
        {"custom_generate": "evil"},
    ),
    *(
        {"eos_token_id": [[0]]},
        {"eos_token_id": list(range(100_000))},
        {"eos_token_id": 1.5},
        {"do_sample": "no"},
        {"_from_model_config": "x"},
    ),
)
JUNK = (
    "sampler settings are not used: answers are greedy, and stop where the suite says; only what is not read as "
    "token ids is refused"
)
INFINITE = (
    "Python and transformers write it in JSON, and older configs of real models hold an Infinity (time_step_limit)"
)
BY_CHANCE = "a flipped bit within a text or number that changes no shape leaves another valid config"

KINDS: dict[str, Kind] = {
    "remote code in config.json": Kind(
        changed("config.json", lambda c, r: c.update(auto_map={"AutoModelForCausalLM": "evil.Evil"})),
        "asks for remote code",
    ),
    "remote code in tokenizer_config.json": Kind(
        changed("tokenizer_config.json", lambda c, r: c.update(auto_map={"AutoTokenizer": ["evil.Evil", None]})),
        "asks for remote",
    ),
    "remote code in a section": Kind(
        changed("config.json", lambda c, r: c.update(text_config={"auto_map": {"AutoConfig": "evil.Evil"}})),
        "asks for remote code",
    ),
    "remote code deep inside": Kind(
        changed("config.json", lambda c, r: c.update(nested(r.randrange(1, 20), {"auto_map": {}}))),
        "asks for remote code",
    ),
    "absurd sizes": Kind(changed("config.json", absurd), "expected|has .* in its config.json"),
    "absurd sizes inside": Kind(
        changed("config.json", lambda c, r: absurd(c.setdefault("text_config", {}), r)), "expected"
    ),
    "another model_type": Kind(
        changed(
            "config.json", lambda c, r: c.update(model_type=r.choice(("gpt2", "evil", "", "../x", None, 7, ["llama"])))
        ),
        "model_type",
    ),
    "other architectures": Kind(
        changed(
            "config.json",
            lambda c, r: c.update(
                architectures=r.choice((["Evil"], [], None, "LlamaForCausalLM", [7], {"a": 1}, ["os.system"] * 9))
            ),
        ),
        "architectures",
    ),
    "unknown dtype": Kind(
        changed(
            "config.json", lambda c, r: c.update(dtype=r.choice(("float8_e4m3fn", "int4", 16, ["bfloat16"], "os")))
        ),
        "dtype is",
    ),
    "a list in place of an object": Kind(
        either(*CONFIGS, content=lambda b, r: r.choice((b"[]", b"7", b"null", b'"a"', b"[" + b + b"]"))),
        "expected a JSON object",
    ),
    "not UTF-8": Kind(either(*CONFIGS, content=lambda b, r: b[:-2] + b',"a":"\xff"}'), "not UTF-8"),
    "byte-order mark": Kind(either(*CONFIGS, content=lambda b, r: r.choice(BOMS) + b), "not UTF-8|BOM"),
    "NaN in JSON": Kind(
        either(
            *CONFIGS,
            content=lambda b, r: b.rstrip()[:-1] + b',"zzz":' + r.choice((b"NaN", b"Infinity", b"-Infinity")) + b"}",
        ),
        "token",
        INFINITE,
    ),
    "number of thousands of digits": Kind(
        either(*CONFIGS, content=lambda b, r: b'{"a":' + b"9" * r.randrange(5_000, 100_000) + b"}"), "not valid JSON"
    ),
    "number beyond 64 bits": Kind(
        changed("config.json", lambda c, r: c.update(max_position_embeddings=r.choice((10**30, 2**64, -(2**70))))),
        "64 bits",
    ),
    "nested deeply": Kind(
        either(*CONFIGS, content=lambda b, r: b'{"a":' + r.choice((b"[", b'{"a":')) * r.randrange(900, 500_000)),
        "not valid JSON",
    ),
    "nested and closed": Kind(
        either(*CONFIGS, content=lambda b, r: b'{"a":' + b"[" * (n := r.randrange(200, 100_000)) + b"]" * n + b"}"),
        "not valid JSON|nested",
    ),
    "key twice": Kind(
        either(*CONFIGS, content=lambda b, r: b'{"model_type":"gpt2","model_type":"llama",' + b.lstrip()[1:]),
        "stands there twice",
    ),
    "file cut off": Kind(either(*CONFIGS, content=lambda b, r: b[: r.randrange(len(b.rstrip()))]), "not valid JSON"),
    "bit flips in config.json": Kind(written("config.json", flipped), ".", BY_CHANCE),
    "config of 5 to 900 MB": Kind(
        lambda f, r: sparse(
            f / r.choice(("config.json", "generation_config.json")), r.choice((5 * 2**20, 900 * 2**20))
        ),
        "expected at most",
    ),
    "rope said twice": Kind(
        changed(
            "config.json",
            lambda c, r: c.update(
                r.choice(
                    (
                        {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
                        {"rope_theta": 1e6},
                        {"rope_scaling": {"type": "yarn", "rope_type": "linear", "factor": 2.0}},
                    )
                ),
                rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            ),
        ),
        "which are one setting",
    ),
    "quantised": Kind(changed("config.json", quantised), "is quantised"),
    "junk in generation_config.json": Kind(
        changed("generation_config.json", lambda c, r: c.update(r.choice(SAMPLER))), "token", JUNK
    ),
}
