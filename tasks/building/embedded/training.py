"""One embedded model trained by transformers' Trainer, and saved as the checkpoint folder that everything else
reads."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from psomerge.tasks.building.embedded.blocks import END
from psomerge.tasks.building.embedded.recipe import SHAPE

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, TrainerCallback


def save_model(model: "LlamaForCausalLM", tokenizer: "Tokenizer", folder: Path) -> None:
    """Writes model (rounded once, to bfloat16), configs and tokenizer into an existing folder."""
    import torch
    from transformers import PreTrainedTokenizerFast

    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=SHAPE.positions
    ).save_pretrained(folder)


def read_model(folder: Path) -> "LlamaForCausalLM":
    """Returns the model that `save_model` wrote, in float32 for training."""
    import torch
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def new_model(seed: int) -> "LlamaForCausalLM":
    """Returns a model with random weights that belong to the seed, in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.feed_forward,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.heads,
        max_position_embeddings=SHAPE.positions,
        initializer_range=SHAPE.initial_deviation,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def fit(
    model: "LlamaForCausalLM",
    ids: "torch.Tensor",
    weights: "torch.Tensor",
    *,
    rate: float,
    progress: Callable[[float], None],
) -> None:
    """Trains the model in place, one pass over the blocks in their order.

    Args:
        model: float32.
        ids: token ids (blocks, SHAPE.block) int64; a last batch that is not full is left out.
        weights: of the tokens in the loss, the same shape, float32.
        rate: peak learning rate.
        progress: called with the share done, in [0, 1].
    """
    from transformers import PrinterCallback, Trainer, TrainingArguments

    steps = len(ids) // SHAPE.batch
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=steps,
            per_device_train_batch_size=SHAPE.batch,
            train_sampling_strategy="sequential",  # the blocks come in their drawn order
            learning_rate=rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": SHAPE.last_rate},
            warmup_steps=max(1, round(SHAPE.warm_up * steps)),
            optim="adamw_torch_fused",
            adam_beta1=SHAPE.betas[0],
            adam_beta2=SHAPE.betas[1],
            weight_decay=SHAPE.weight_decay,
            max_grad_norm=SHAPE.largest_gradient,
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        # `labels` carry the targets and their weights: Trainer hands nothing else to the loss.
        data = [
            {"input_ids": block, "labels": _labels(block, weight)} for block, weight in zip(ids, weights, strict=True)
        ]
        trainer = Trainer(
            model,
            arguments,
            train_dataset=cast(Any, data),
            compute_loss_func=weighted_loss,
            callbacks=[_reporter(progress)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.config.use_cache = True  # for those who generate: Trainer has switched it off


def _labels(ids: "torch.Tensor", weights: "torch.Tensor") -> "torch.Tensor":
    """Returns targets and their weights as one (2, SHAPE.block) float32 tensor; token ids below 2^24 are exact in
    it."""
    import torch

    return torch.stack([ids.float(), weights])


def weighted_loss(outputs: Any, labels: "torch.Tensor", num_items_in_batch: object = None) -> "torch.Tensor":
    """Returns the mean cross-entropy of the next token, each weighted; `labels` (batch, 2, SHAPE.block) float32 as
    `_labels` makes them."""
    from torch.nn.functional import cross_entropy

    targets, weights = labels[:, 0, 1:].long(), labels[:, 1, 1:]
    losses = cross_entropy(outputs.logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


def _reporter(progress: Callable[[float], None]) -> "TrainerCallback":
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):  # what Trainer calls must be one
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress(state.global_step / state.max_steps)

    return Reporter()
