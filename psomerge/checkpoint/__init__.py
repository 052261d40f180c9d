"""Checkpoints: read a safetensors folder lazily and safely, refuse what is broken or does not fit, write shards durably."""

from psomerge.checkpoint.fit import check_finite, check_fit, misfits
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.checkpoint.tokenizer import has_chat_template, tokenizers_differ
from psomerge.checkpoint.writer import companion_files, write_checkpoint, write_companions

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "check_finite",
    "check_fit",
    "companion_files",
    "has_chat_template",
    "misfits",
    "open_checkpoint",
    "tokenizers_differ",
    "write_checkpoint",
    "write_companions",
]
