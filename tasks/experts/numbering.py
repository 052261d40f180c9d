"""Whether a merged tokenizer numbers its added tokens as its file says: the tokenizers library counts them itself, and
passes over what it cannot take."""

from psomerge.checkpoint.reader import Checkpoint
from psomerge.errors import ArtefactError
from psomerge.vocabulary.merged_vocabulary import Union
from psomerge.vocabulary.tokens import Vocabulary, few, read_vocabulary, shown


def check_numbering(chosen: Checkpoint, merged: bytes, union: Union) -> None:
    """Checks a merged tokenizer against the library that will read it.

    Args:
        chosen: the checkpoint whose tokenizer it is, as opened.
        merged: the tokenizer.json with the tokens of others.
        union: that these tokens are of.

    Raises:
        ArtefactError: the library does not take the file, or gives a token another id.
    """
    from tokenizers import Tokenizer

    path = chosen.folder / "tokenizer.json"
    try:
        library = Tokenizer.from_str(merged.decode())
    except Exception as error:  # the library raises plain Exceptions
        raise ArtefactError(
            f"{path}: the tokenizers library does not take it: {' '.join(str(error).split())[:200]}; fetch the file "
            "again"
        ) from error
    own = (read_vocabulary(chosen) or Vocabulary({}, {})).added
    expected = {token: one.id for token, one in {**own, **union.added}.items() if token not in union.renamed}
    wrong = [
        f"{shown(token)} id {found}, the file {number}"
        for token, number in expected.items()
        if (found := library.token_to_id(token)) != number
    ]
    if wrong:
        advice = (
            "give its added tokens ids that follow each other behind its vocabulary, or choose another tokenizer "
            "with tokenizer_from"
        )
        raise ArtefactError(
            f"{path}: with the tokens of the other models the tokenizers library gives {few(wrong)}; {advice}"
        )
