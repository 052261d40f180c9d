"""Tokenizers that exist in other files than tokenizer.json, as older and other libraries write them: small, and sound.

Each function puts the files into a folder that may hold a model already.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SENTENCES = ["hello world a b c d e f g h", "the cat sat on the mat", "jklmnop qrstuvwxyz", "abc def"] * 20
TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROLS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)


def sentencepiece(path: Path, kind: str = "unigram", size: int = 60, **settings: Any) -> None:
    """Trains a SentencePiece model of at most `size` pieces."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=9,
        **settings,
    )
    path.write_bytes(model.getvalue())


def spoken(folder: Path, tokenizer: str, **settings: object) -> None:
    """Writes a tokenizer_config.json that names the class."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer} | settings))


def spiece(folder: Path) -> None:
    sentencepiece(folder / "spiece.model")
    spoken(folder, "T5Tokenizer", extra_ids=2)


def sentencepiece_bpe(folder: Path) -> None:
    sentencepiece(folder / "sentencepiece.bpe.model")
    spoken(folder, "PLBartTokenizer")


def tokenizer_model(folder: Path) -> None:
    sentencepiece(folder / "tokenizer.model", "bpe", 320, byte_fallback=True)
    spoken(folder, "LlamaTokenizer")


def vocab_and_merges(folder: Path) -> None:
    letters = ["<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "the"]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    spoken(folder, "GPT2Tokenizer")


def vocab_txt(folder: Path) -> None:
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\nsat\na\nb\n##b\n")
    spoken(folder, "BertTokenizer", eos_token="[SEP]")


def marian(folder: Path) -> None:
    pieces = ["</s>", "<unk>", "<pad>", "▁the", "▁cat", "▁a", "▁b", *"thecasb"]
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(dict.fromkeys(pieces))}))
    for name in ("source.spm", "target.spm"):
        sentencepiece(folder / name)
    spoken(folder, "MarianTokenizer", source_lang="en", target_lang="de")


def tekken(folder: Path) -> None:
    words = [bytes([value]) for value in range(200)] + [b"ab", b"th", b"the", b" a"]
    ranks = [
        {"rank": rank, "token_bytes": base64.b64encode(word).decode(), "token_str": None}
        for rank, word in enumerate([*words[:200], *(bytes([value]) for value in range(200, 256)), *words[200:]])
    ]
    controls = [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(CONTROLS)]
    config = {
        "pattern": TEKKEN_PATTERN,
        "num_vocab_tokens": len(ranks),
        "default_vocab_size": len(ranks) + len(controls),
        "default_num_special_tokens": len(controls),
        "version": "v3",
    }
    (folder / "tekken.json").write_text(json.dumps({"config": config, "vocab": ranks, "special_tokens": controls}))


def bytes_alone(folder: Path) -> None:
    """A tokenizer of bytes needs no vocabulary: its class is all."""
    spoken(folder, "ByT5Tokenizer", extra_ids=0)


KINDS: dict[str, Callable[[Path], None]] = {
    "spiece.model": spiece,
    "sentencepiece.bpe.model": sentencepiece_bpe,
    "tokenizer.model": tokenizer_model,
    "vocab.json and merges.txt": vocab_and_merges,
    "vocab.txt": vocab_txt,
    "vocab.json, source.spm and target.spm": marian,
    "tekken.json": tekken,
    "bytes alone": bytes_alone,
}


def without_tokenizer(folder: Path) -> Path:
    """Takes the tokenizer that `tiny_llama` wrote away."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    return folder
