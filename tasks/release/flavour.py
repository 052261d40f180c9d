"""A checkpoint as a model of MLflow's transformers flavour: what is in MLmodel, and by which call a user gets it
loaded."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from psomerge.files.untrusted import read_json

CONFIG_LIMIT = 4 * 2**20
REQUIREMENTS = ("mlflow", "torch", "transformers")
_NOISE = ("The model card could not be retrieved", "Unable to find license information")


def save_model(checkpoint: Path, folder: Path, *, origin: str, metadata: Mapping[str, str]) -> None:
    """Writes the MLflow model folder of a checkpoint, which MLflow copies and does not load: MLmodel, requirements,
    `model/`, `components/tokenizer/`.

    transformers 5 has no pipeline for sequence-to-sequence models, and its `text-generation` answers with the prompt
    alone. So their task is `text2text-generation`, which older versions know and this one refuses, and they have no
    pyfunc: load them with `return_type="components"`.

    Args:
        checkpoint: Config and tokenizer; weights may be added to `folder / "model"` later.
        folder: Must not exist.
        origin: Says in MLmodel what the model is; MLflow would put this machine's path there.
        metadata: Shown with the model.
    """
    import mlflow.transformers as flavor
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    text = Schema([ColSpec(DataType.string)])
    # pyfunc would sample 256 tokens a request.
    params = ParamSchema(
        [ParamSpec("max_new_tokens", DataType.long, 64), ParamSpec("do_sample", DataType.boolean, False)]
    )
    with _quiet():
        flavor.save_model(
            str(checkpoint.absolute()),
            str(folder),
            task="text-generation",
            signature=ModelSignature(text, text, params),
            pip_requirements=[f"{name}=={installed(name).partition('+')[0]}" for name in REQUIREMENTS],
            metadata=dict(metadata),
        )
    model = Model.load(str(folder))
    model.flavors["transformers"]["source_model_name"] = origin
    if is_paired(read_json(checkpoint / "config.json", CONFIG_LIMIT)):
        model.flavors["transformers"] |= {
            "task": "text2text-generation",
            "instance_type": "Text2TextGenerationPipeline",
        }
        del model.flavors["python_function"]
    model.save(str(folder / "MLmodel"))


def is_paired(config: Mapping[str, Any]) -> bool:
    """Returns whether a model of this config.json reads with an encoder and writes with a decoder."""
    return config.get("is_encoder_decoder") is True


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what MLflow says about its own classes, and that it finds no card and licence of a local folder on the
    hub."""
    logger = logging.getLogger("mlflow.transformers")
    logger.addFilter(_is_worth_saying)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
            yield
    finally:
        logger.removeFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOISE)
