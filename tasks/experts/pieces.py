"""A checkpoint's vocabulary, also where only a sentencepiece model holds it."""

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.untrusted import MAX_TOKENIZER, read_bytes
from psomerge.vocabulary.tokens import Vocabulary, added, read_vocabulary


def read_pieces(checkpoint: Checkpoint) -> Vocabulary | None:
    """Returns a vocabulary as `read_vocabulary`, of a lone tokenizer.model by its pieces.

    Raises:
        ArtefactError: a tokenizer file is damaged or larger than one can be.
    """
    found = read_vocabulary(checkpoint)
    if found is not None or "tokenizer.model" not in checkpoint.files:
        return found
    from sentencepiece import SentencePieceProcessor

    path = checkpoint.folder / "tokenizer.model"
    content = read_bytes(path, MAX_TOKENIZER)
    if not content.startswith(b"\n"):
        return None  # tiktoken's ranks go by this name, too: they number bytes, which no other file here names
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content)
    except RuntimeError as error:
        raise ArtefactError(
            f"{path}: expected a sentencepiece model, found another or a damaged file; fetch it again"
        ) from error
    return Vocabulary(
        {processor.IdToPiece(number): number for number in range(processor.GetPieceSize())}, added(checkpoint)
    )
