"""What can be wrong with a tokenizer."""

import random
from pathlib import Path

from made.malformed import OUTSIDE, Kind
from made.malformed_configs import changed, flipped, sparse, written

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
SLOW = (
    r"(\w+)+!",
    r"(a|a)*b",
    r"([a-z]*)*;",
    r"((?:\w|\d)+\s?)+:",
    r"(.*)*,",
    r"(\w+){20,}!",
    r"((a+)+)+[^a]b",
    r"(x+x+)+y",
    r"(a|aa)+$",
    r"(?=(\w+)+!)a",
)


def split_by(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def slow(content: dict, rng: random.Random) -> None:
    """A regular expression that takes exponential time on a text that all but matches."""
    pattern = rng.choice(SLOW)
    place = rng.randrange(4)
    if place == 0:
        content["normalizer"] = {
            "type": "Sequence",
            "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}],
        }
    elif place == 1:
        content["decoder"] = {
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"}, content["decoder"]],
        }
    else:
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split_by(pattern), content["pre_tokenizer"]]}


def growing(content: dict, rng: random.Random) -> None:
    """A normalizer that makes gigabytes of one letter: each step makes ten of one."""
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10} for _ in range(rng.randrange(9, 30))]
    content["normalizer"] = {"type": "Sequence", "normalizers": steps}


def token(content: str, number: object) -> dict:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": False,
    }


def outside_files(settings: dict, rng: random.Random, folder: Path) -> None:
    secret = str(folder.parent / OUTSIDE / rng.choice((TOKENIZER, "secret.txt")))
    key = rng.choice(("vocab_file", "tokenizer_file", "merges_file", "spm_file", "fast_tokenizer_files", "vocab"))
    settings[key] = (
        [f"tokenizer.0.0.0.json/../../{OUTSIDE}/{TOKENIZER}", secret] if key == "fast_tokenizer_files" else secret
    )


def only(folder: Path, name: str, content: bytes) -> None:
    """The tokenizer in another file than tokenizer.json."""
    (folder / TOKENIZER).unlink()
    (folder / name).write_bytes(content)


def posted(content: dict, rng: random.Random) -> None:
    """A post-processor that adds thousands of tokens to every text, or that is none."""
    many = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
    }
    many["special_tokens"] = {"x": {"id": "x", "ids": [0] * 1_000_000, "tokens": ["<eos>"] * 1_000_000}}
    content["post_processor"] = rng.choice((many, {"type": "TemplateProcessing"}, {"type": "Evil"}, [], 7))


VOCABULARIES = (
    {"<eos>": -1},
    {"<eos>": 2**40},
    {"<eos>": "0"},
    {"<eos>": 1.5},
    {"<eos>": None},
    [],
    None,
    7,
)
TEXT = r"token|\.model: expected|vocab\."
BY_CHANCE = (
    "a flipped bit within a token's text leaves another valid tokenizer: that it differs from the base's is seen by "
    "`tokenizers_differ`"
)
LEFT = "the library opens another file, or falls back to what tokenizer.json says, and the texts are cut as before"
NOT_USED = "the key is not used by the class that opens this tokenizer"

KINDS: dict[str, Kind] = {
    "giant tokenizer": Kind(
        lambda f, r: sparse(
            f / r.choice((TOKENIZER, SETTINGS, "vocab.json", "added_tokens.json")), r.choice((200, 900)) * 2**20
        ),
        "expected at most",
    ),
    "tokenizer nested deeply": Kind(
        written(TOKENIZER, lambda b, r: b'{"model":' + r.choice((b"[", b'{"a":')) * r.randrange(900, 500_000)),
        "not valid JSON",
    ),
    "tokenizer nested within its limits": Kind(
        written(TOKENIZER, lambda b, r: b'{"model":' + b"[" * (n := r.randrange(200, 900)) + b"]" * n + b"}"), "nested"
    ),
    "tokenizer cut off": Kind(written(TOKENIZER, lambda b, r: b[: r.randrange(len(b) - 3)]), "not valid JSON"),
    "tokenizer a list": Kind(
        written(TOKENIZER, lambda b, r: r.choice((b"[]", b"7", b"null"))), "expected a JSON object"
    ),
    "tokenizer of something else": Kind(
        written(TOKENIZER, lambda b, r: r.choice((b"{}", b'{"model":{}}', b'{"model":{"type":"Evil"}}'))), TEXT
    ),
    "vocabulary of nonsense": Kind(
        changed(TOKENIZER, lambda c, r: c["model"].update(vocab=r.choice(VOCABULARIES))), TEXT
    ),
    "merges of nonsense": Kind(
        changed(
            TOKENIZER,
            lambda c, r: c["model"].update(merges=r.choice((["x y"], [["no", "token"]], [7], {"a": 1}, ["a"] * 9))),
        ),
        TEXT,
    ),
    "bit flips in the tokenizer": Kind(written(TOKENIZER, flipped), ".", BY_CHANCE),
    "regular expression that never ends": Kind(changed(TOKENIZER, slow), "regular expression"),
    "regular expression that is none": Kind(
        changed(TOKENIZER, lambda c, r: c.update(pre_tokenizer=split_by(r.choice(("(", "[a", "*", "(?P<", "\\"))))),
        "regular expression|tokenizer",
    ),
    "normalizer that grows": Kind(changed(TOKENIZER, growing), "normalizer"),
    "normalizer of nonsense": Kind(
        changed(
            TOKENIZER,
            lambda c, r: c.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA" * r.randrange(99)}),
        ),
        TEXT,
    ),
    "tokenizer files outside": Kind(
        lambda f, r: changed(SETTINGS, lambda c, s: outside_files(c, s, f))(f, r), "points outside", NOT_USED
    ),
    "another tokenizer file": Kind(
        lambda f, r: only(
            f,
            r.choice(("tokenizer.model", "vocab.json", "spiece.model", "vocab.txt", "tiktoken.model")),
            r.choice((b"{}", r.randbytes(999))),
        ),
        TEXT,
        LEFT,
    ),
    "tokenizer of millions of lists": Kind(
        written(TOKENIZER, lambda b, r: b'{"model":[' + b"[]," * 15_000_000 + b"[]]}"), TEXT
    ),
    "tokenizer class of nonsense": Kind(
        changed(
            SETTINGS,
            lambda c, r: c.update(
                tokenizer_class=r.choice(("os.system", "../x", "BertTokenizer", "T5Tokenizer", 7, ["x"], "", {"a": 1}))
            ),
        ),
        TEXT,
        LEFT,
    ),
    "special tokens of nonsense": Kind(
        changed(
            SETTINGS,
            lambda c, r: c.update(
                {
                    r.choice(("eos_token", "pad_token", "bos_token")): r.choice(
                        (7, [], ["x"], {"a": 1}, {"content": 7}, None, "x" * 9**6)
                    )
                }
            ),
        ),
        TEXT,
        LEFT,
    ),
    "added tokens of nonsense": Kind(
        changed(
            SETTINGS,
            lambda c, r: c.update(
                added_tokens_decoder=r.choice(
                    ({"x": {"content": "a"}}, {"0": 7}, {"-1": {"content": "a"}}, {"9" * 30: {"content": "a"}}, [7])
                )
            ),
        ),
        TEXT,
        LEFT,
    ),
    "tokens added past the embedding": Kind(
        changed(
            TOKENIZER,
            lambda c, r: c["added_tokens"].extend(token(f"<{n}>", 10**6 + n) for n in range(r.choice((1, 9, 50_000)))),
        ),
        "past the .* rows",
    ),
    "tokens added of nonsense": Kind(
        changed(
            TOKENIZER,
            lambda c, r: c["added_tokens"].append(
                r.choice(
                    (7, "x", {}, token("a", -1), token("a", 2**40), token("a", "7"), {"id": 3, "content": "a"}, [1])
                )
            ),
        ),
        TEXT,
        LEFT,
    ),
    "tokens added twice or without text": Kind(
        changed(
            TOKENIZER,
            lambda c, r: c["added_tokens"].extend(
                token(r.choice(("", "<x>", "a", " ")), r.randrange(3)) for _ in range(r.randrange(1, 9))
            ),
        ),
        TEXT,
        "the library passes over a token without text and over the second of two, and counts the rest on: ids that "
        "it gives otherwise are refused",
    ),
    "settings of nonsense": Kind(
        changed(
            SETTINGS,
            lambda c, r: c.update(
                r.choice(
                    (
                        {"model_max_length": -1},
                        {"model_max_length": "x"},
                        {"padding_side": 7},
                        {"extra_special_tokens": 7},
                        {"init_inputs": ["/etc/passwd"]},
                        {"backend": "evil"},
                        {"self": 1},
                        {"clean_up_tokenization_spaces": []},
                    )
                )
            ),
        ),
        TEXT,
        LEFT,
    ),
    "post-processor of nonsense": Kind(changed(TOKENIZER, posted), TEXT),
}
