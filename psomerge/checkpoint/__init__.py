"""Checkpoints: read a safetensors folder lazily and safely, refuse what is broken or does not fit, write shards
durably."""

from psomerge.checkpoint.differences import differences
from psomerge.checkpoint.finite import check_finite
from psomerge.checkpoint.fit import all_misfits, check_buffers, check_fit, misfit, misfits
from psomerge.checkpoint.header import TensorInfo
from psomerge.checkpoint.reader import Checkpoint, open_checkpoint
from psomerge.checkpoint.tokenizer import has_chat_template, has_tokenizer, tokenizers_differ
from psomerge.checkpoint.writer import companion_files, write_checkpoint, write_companions

__all__ = [
    "Checkpoint",
    "TensorInfo",
    "all_misfits",
    "check_buffers",
    "check_finite",
    "check_fit",
    "companion_files",
    "differences",
    "has_chat_template",
    "has_tokenizer",
    "misfit",
    "misfits",
    "open_checkpoint",
    "tokenizers_differ",
    "write_checkpoint",
    "write_companions",
]
