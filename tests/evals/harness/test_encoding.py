"""A tokenizer from somebody else: what could do harm is refused before a library opens it, and what a library makes of
nonsense is one clear line."""

import base64
import json
import logging
from pathlib import Path

import pytest

from made.models import byte_tokenizer
from psomerge.errors import ArtefactError
from psomerge.evals.harness.encoding import Encoder


def changed(folder: Path, file: str, **values: object) -> Path:
    byte_tokenizer().save_pretrained(folder)
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(content | values))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        Encoder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_that_no_checkpoint_was_opened_from_is_looked_at_too(tmp_path: Path) -> None:
    folder = changed(tmp_path / "model", "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    assert "asks for remote code" in refusal(folder)


@pytest.mark.heavy
def test_a_pattern_that_never_ends_is_refused_before_a_text_is_cut(tmp_path: Path) -> None:
    slow = {"type": "Split", "pattern": {"Regex": r"(\w+)+!"}, "behavior": "Isolated", "invert": False}
    assert "regular expression" in refusal(changed(tmp_path / "model", "tokenizer.json", pre_tokenizer=slow))


def test_whatever_a_library_raises_over_a_tokenizer_is_one_line(tmp_path: Path) -> None:
    # tokenizers raises a plain Exception here, which is neither OSError nor ValueError.
    text = refusal(
        changed(tmp_path / "model", "tokenizer.json", model={"type": "BPE", "vocab": {"a": 2**40}, "merges": []})
    )
    assert text.startswith(f"{tmp_path}/model: cannot open its tokenizer or configuration: invalid value")


def test_a_tokenizer_that_opens_but_cannot_encode_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    assert "Missing [UNK] token" in refusal(
        changed(tmp_path / "model", "tokenizer_config.json", tokenizer_class="BertTokenizer")
    )


def test_a_generation_config_that_an_engine_could_not_open_is_refused_here(tmp_path: Path) -> None:
    assert "cache_implementation" in refusal(
        changed(tmp_path / "model", "generation_config.json", cache_implementation="nonsense")
    )


def test_a_vocabulary_that_took_the_place_of_another_is_read_and_not_remembered(tmp_path: Path) -> None:
    # The story: tiktoken keeps what it reads under a name made of the path alone, so a second model in the same folder
    # got the first one's tokens.
    from tiktoken.load import load_tiktoken_bpe

    Encoder(changed(tmp_path / "model", "tokenizer_config.json"))
    path = tmp_path / "x.tiktoken"
    for word in (b"first", b"second"):
        path.write_bytes(base64.b64encode(word) + b" 0\n")
        assert load_tiktoken_bpe(str(path)) == {word: 0}


def test_a_length_that_is_none_cuts_nothing_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.api.instance import Instance

    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    encoder = Encoder(changed(tmp_path / "model", "tokenizer_config.json", model_max_length=-1))
    instance = Instance(request_type="loglikelihood", doc={}, arguments=("a" * 300, " b"), idx=0)
    (request,) = encoder.loglikelihood([instance])
    assert (len(request.context), len(request.continuation)) == (300, 2)
    assert caplog.text == ""
