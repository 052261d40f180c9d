"""The sentencepiece models of spBLEU, where sacrebleu looks for them: found, else downloaded whole or not at all, with
a digest where one is published."""

import hashlib
import http.client
import urllib.request
from pathlib import Path

from psomerge.errors import ArtefactError, ServiceError
from psomerge.files.durable import write_atomic, writing

PUBLISHED = {"flores200": "14bb8dfb35c0ffdea7bc01e56cea38b9e3d5efcdcb9c251d6b40538e1aab555a"}
"""SHA-256 by tokeniser. flores200's is NLLB-200's SPM-200, `sentencepiece.bpe.model` of
facebook/nllb-200-distilled-600M; of flores101's none is known."""
DEADLINE = 30
"""Seconds until a server must have answered."""


def model_file(tokeniser: str) -> Path:
    """Returns the file of sacrebleu's tokeniser `flores101` or `flores200`, in `$SACREBLEU/models`
    (`~/.sacrebleu/models`), downloaded if it is not there.

    Raises:
        ServiceError: not there, and the server cannot be reached.
        ArtefactError: the file is not the published one.
        SpaceError: the folder cannot be written.
    """
    from sacrebleu.tokenizers import tokenizer_spm

    url = tokenizer_spm.SPM_MODELS[tokeniser]["url"]
    path = Path(tokenizer_spm.SACREBLEU_DIR) / "models" / Path(url).name  # pyright: ignore[reportPrivateImportUsage] (what its tokenisers read)
    if not path.is_file() or not path.stat().st_size:  # an interrupted download of sacrebleu's own leaves an empty file
        content = _download(tokeniser, url, path)
        _verify(tokeniser, content, url)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    else:
        _verify(tokeniser, path.read_bytes(), str(path))
    return path


def _download(tokeniser: str, url: str, path: Path) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(
            f"spBLEU needs the tokeniser {tokeniser}, and {url} cannot be fetched ({error}); fetch it elsewhere and "
            f"put it at {path}"
        ) from error


def _verify(tokeniser: str, content: bytes, where: str) -> None:
    found, published = hashlib.sha256(content).hexdigest(), PUBLISHED.get(tokeniser)
    if published and found != published:
        raise ArtefactError(
            f"{where}: expected the tokeniser {tokeniser} with SHA-256 {published}, found {found}; remove it and "
            "fetch it again"
        )
