"""The embedded default: a small base model and its experts, trained on the user's machine from names that CLDR gives.

    recipe    what is trained on how many tokens, and the folder it belongs in
    text      lines of training text          (which concept may appear in which form)
    blocks    tokenizer, and lines packed into blocks of token ids
    training  one model: forward, loss, optimiser, saved as a checkpoint folder
    worker    a process that trains some of the models and tells how far it is
    models    all five models: processes, progress, what is there already

Importing it imports neither torch nor transformers.
"""

from psomerge.tasks.building.embedded.models import train
from psomerge.tasks.building.embedded.recipe import EXPERTS, MODELS, embedded_folder

__all__ = ["EXPERTS", "MODELS", "embedded_folder", "train"]
