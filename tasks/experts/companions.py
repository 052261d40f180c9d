"""What a user should know of the files beside the weights that a merged model gets, or that nobody has for it."""

from collections.abc import Iterator, Sequence

from psomerge.checkpoint.reader import Checkpoint
from psomerge.checkpoint.writer import carried
from psomerge.files.names import PROCESSOR_FILES
from psomerge.files.untrusted import MAX_TOKENIZER, read_json
from psomerge.fit.warning import FitWarning
from psomerge.vocabulary.tokenizer import EXPECTED, WITHOUT_TOKENIZER, has_tokenizer
from psomerge.vocabulary.tokens import few


def companion_warnings(experts: Sequence[Checkpoint], chosen: Checkpoint) -> Iterator[FitWarning]:
    """Yields what is missing among the files of a merged model, stays behind, or is another's.

    Args:
        experts: that fit.
        chosen: base or expert, whose tokenizer the merged model gets.

    Raises:
        ArtefactError: a file is damaged or larger than it can be.
    """
    yield from missing_tokenizer([chosen])
    if "tekken.json" in chosen.files and "tekken.json" not in carried(chosen.files):
        advice = "it stays behind: it is the same vocabulary, without the tokens of others"
        yield FitWarning(chosen.name, "tekken.json", "tokenizer.json or tekken.json", "both", advice)
    for expert in experts:
        for name in PROCESSOR_FILES:
            if expert is not chosen and name in expert.files and name in chosen.files:
                ours, theirs = (read_json(one.folder / name, MAX_TOKENIZER) for one in (chosen, expert))
                if keys := [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]:
                    advice = f'pictures and sounds are prepared as "{chosen.name}" says'
                    yield FitWarning(expert.name, name, f"that of {chosen.name}", f"another {few(keys)}", advice)


def missing_tokenizer(models: Sequence[Checkpoint], base: Checkpoint | None = None) -> Iterator[FitWarning]:
    """Yields a warning for each model that has no tokenizer, unless its base has one; a model without any file is still
    to be trained. Raises ArtefactError as `has_tokenizer`."""
    if base is None or not has_tokenizer(base):
        for model in models:
            if model.files and not has_tokenizer(model):
                yield FitWarning(model.name, "tokenizer", EXPECTED, "none", WITHOUT_TOKENIZER)
