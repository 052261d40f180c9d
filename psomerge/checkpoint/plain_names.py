"""One name for a tensor, whatever versions, classes and trainers put before it: `model.`, `language_model.model.`,
`_orig_mod.`, nothing."""

import re
from collections.abc import Iterable

TRAINERS = re.compile(r"(?:^module\.|(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)")
"""Of torch.compile, FSDP and checkpointed activations anywhere, of data parallelism in front."""
_OUTER = re.compile(r"^(base_model\.model\.|pretrained_model\.)+")
"""Of PEFT and TRL."""
_WRAPPERS = re.compile(r"^((model|language_model|text_model|transformer|gpt_neox|bert|roberta)\.(?=.))+")
_SPELLINGS = (
    (re.compile(r"^embed_out\."), "lm_head."),
    (re.compile(r"(^|\.)block_sparse_moe\."), r"\1mlp."),
    (re.compile(r"\.mlp\.router\.(layer\.)?"), ".mlp.gate."),
    (re.compile(r"\.mlp\.input_linear\.weight$"), ".mlp.experts.gate_up_proj"),
    (re.compile(r"\.mlp\.output_linear\.weight$"), ".mlp.experts.down_proj"),
    (re.compile(r"(\.experts\.\d+)\.w1\."), r"\1.gate_proj."),
    (re.compile(r"(\.experts\.\d+)\.w2\."), r"\1.down_proj."),
    (re.compile(r"(\.experts\.\d+)\.w3\."), r"\1.up_proj."),
)


def unwrapped(name: str) -> str:
    """Returns a tensor's name without what a trainer put before it."""
    return _OUTER.sub("", TRAINERS.sub("", name))


def plain_name(name: str) -> str:
    """Returns a tensor's name without its wrappers, in the spelling that all layouts share."""
    name = _WRAPPERS.sub("", unwrapped(name))
    for pattern, spelling in _SPELLINGS:
        name = pattern.sub(spelling, name)
    return name


class Names:
    """The names of a checkpoint's tensors, found as they stand there or by what they are called elsewhere."""

    def __init__(self, names: Iterable[str]) -> None:
        """Keeps them."""
        self._names = frozenset(names)
        self._by_plain: dict[str, list[str]] = {}
        for name in self._names:
            self._by_plain.setdefault(plain_name(name), []).append(name)

    def __contains__(self, name: object) -> bool:
        """Returns whether a tensor is called exactly so."""
        return name in self._names

    def alike(self, name: str) -> str | None:
        """Returns the one tensor that has this name in some layout; None where there is none, or several."""
        found = self._by_plain.get(plain_name(name), [])
        return found[0] if len(found) == 1 else None
