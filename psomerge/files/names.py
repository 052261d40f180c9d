"""The names of a checkpoint's files: those that are read, digested, fetched, copied and published."""

import hashlib
from collections.abc import Container

VOCABULARY_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tiktoken.model"),
    *("spiece.model", "sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "spm_char.model"),
    *("source.spm", "vocab-src.json", "prophetnet.tokenizer", "byte_maps.json"),
)
"""Files of a tokenizer that hold its vocabulary, or the first of its vocabularies: it has at least one of them."""
TOKENIZER_FILES = (
    *VOCABULARY_FILES,
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", "bpe.codes", "dict.txt"),
    *("target.spm", "target_vocab.json", "vocab-tgt.json", "emoji.json", "normalizer.json", "entity_vocab.json"),
    *("word_shape.json", "word_pronunciation.json", "chat_template.jinja", "chat_template.json"),
)
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""How pictures, sounds and videos become inputs of a model."""
MORE_TEMPLATES = "additional_chat_templates"
"""The one folder of a checkpoint: transformers reads its `*.jinja` as further chat templates."""
INDEX = "model.safetensors.index.json"
ADAPTER, ADAPTER_WEIGHTS, MLX_WEIGHTS = "adapter_config.json", "adapter_model.safetensors", "adapters.safetensors"
ALLOWED = ("config.json", "generation_config.json", ADAPTER, INDEX, *TOKENIZER_FILES, *PROCESSOR_FILES)
"""Files of a checkpoint that are read, digested and copied, besides `*.safetensors` and further chat templates; all
others are left alone."""

ALLOWED_DIGEST = hashlib.sha256("\n".join(sorted(ALLOWED)).encode()).hexdigest()
"""Of the names, in hex: what was kept by other names may lack files."""


def allowed(name: str) -> bool:
    """Returns whether a file of this name belongs to a checkpoint."""
    return name in ALLOWED or name.endswith(".safetensors") or is_template(name)


def is_template(name: str) -> bool:
    """Returns whether a file of this name is a further chat template."""
    folder, _, file = name.rpartition("/")
    return folder == MORE_TEMPLATES and file.endswith(".jinja")


def adapter_weights(names: Container[str]) -> str:
    """Returns the file that holds an adapter's weights among those of its folder: PEFT's unless only MLX's is there."""
    return MLX_WEIGHTS if MLX_WEIGHTS in names and ADAPTER_WEIGHTS not in names else ADAPTER_WEIGHTS
