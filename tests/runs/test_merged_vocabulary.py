"""Experts with tokens of their own through the whole pipeline: plan, search in vLLM, registry, rebuilding, evaluation
of the recipe."""

import html
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer

from made.extended import by_token, extended
from runs.small_run import Small, small_run

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

CHAT = [AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)]
TOOL = [AddedToken("<tool>", special=True), AddedToken("<|im_end|>", special=True)]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A chat expert with two tokens and a template of its own, and a tool expert with two, one of them the same."""
    settings = {
        "swarm": {"initial": "paper", "steps": 2, "drop_rate": 0.5},
        "compare": {"baselines": ["average", "ties"]},
    }
    small = small_run(tmp_path_factory.mktemp("union"), **settings)
    small.change(engine={"kind": "vllm", "kv_cache_gib": 0.0625, "max_num_seqs": 4, "max_num_batched_tokens": 2048})
    for number, tokens in (1, CHAT), (2, TOOL):
        shutil.rmtree(small.folder / f"expert{number}")
        extended(small.folder / "base", small.folder / f"expert{number}", tokens, number)
    (small.folder / "expert1" / "chat_template.jinja").write_text(TEMPLATE)
    return small


@pytest.fixture(scope="module")
def found(small: Small) -> dict:
    return small.run()


def test_plan_asks_nothing(small: Small) -> None:
    done = small.psomerge("plan", str(small.config))
    assert done.returncode == 0, done.stderr
    assert "tokenizer: that of expert1, 259 rows, merged by token, with 1 token of others: '<tool>'\n" in done.stdout


def test_the_registered_model_has_everybody_s_tokens(small: Small, found: dict) -> None:
    # The version exists because a fresh engine, which knows nothing of any swap, gave the registered copy the bits that
    # were judged.
    assert found["version"] is not None
    model = Path(found["checkpoint"])
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model, dtype="auto")
    assert loaded.config.vocab_size == len(tokenizer) == len(AutoTokenizer.from_pretrained(small.folder / "base")) + 3
    assert tokenizer.apply_chat_template([{"content": "a"}], tokenize=False) == "<|im_start|>a<|im_end|>"
    ids = tokenizer("<|im_start|><tool><|im_end|>")["input_ids"]
    assert len(ids) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == ""
    rows = loaded.get_input_embeddings().weight
    for number, expert, token in ((ids[0], "expert1", "<|im_start|>"), (ids[1], "expert2", "<tool>")):
        assert torch.equal(rows[number], by_token(small.folder / expert, "model.embed_tokens.weight")[token])


def test_its_recipe_rebuilds_it_and_is_evaluated_as_the_model_is(small: Small, found: dict) -> None:
    recipe = json.loads(Path(found["recipe"]).read_text())
    assert recipe["vocabulary"]
    told = "that of expert1, 259 rows, merged by token, with 1 token of others: '<tool>'"
    (card,) = (small.home / "artifacts").rglob("README.md")
    assert told in card.read_text()
    assert told in html.unescape((Path(found["checkpoint"]).parent / "report" / "index.html").read_text())
    done = small.psomerge("materialize", found["recipe"], "--out", "again")
    assert done.returncode == 0, done.stderr
    again, published = (
        load_file(next(folder.rglob("*.safetensors"))) for folder in (small.folder / "again", Path(found["checkpoint"]))
    )
    assert all(torch.equal(again[name], published[name]) for name in published)
    for file in ("tokenizer.json", "config.json"):
        assert (small.folder / "again" / file).read_bytes() == (Path(found["checkpoint"]) / file).read_bytes()
    scores = []
    for model in (found["recipe"], "again"):
        settings = ["--set", "engine.kind=transformers", "--set", "split=test", "--json"]
        done = small.psomerge("evaluate", model, "--suite", "suite.yaml", *settings)
        assert done.returncode == 0, done.stderr
        scores.append(json.loads(done.stdout)["fitness"])
    assert scores[0] == scores[1]


def test_a_static_merge_takes_the_tokenizer_that_is_named(small: Small) -> None:
    words = ["merge", "linear", "--base", "base", "--expert", "expert1", "--expert", "expert2"]
    done = small.psomerge(*words, "--tokenizer-from", "expert2", "--out", "named", "--json")
    assert done.returncode == 0, done.stderr
    assert [warning["what"] for warning in json.loads(done.stdout)["warnings"]] == ["chat template"]
    found = AutoTokenizer.from_pretrained(small.folder / "named")
    own = AutoTokenizer.from_pretrained(small.folder / "expert2").get_vocab()
    assert {token: number for token, number in found.get_vocab().items() if token in own} == own
    assert "<|im_start|>" in found.get_vocab()
    done = small.psomerge(*words, "--tokenizer-from", "expert3", "--out", "other")
    assert done.returncode == 2
    assert "expected base or an expert's address" in done.stderr
