"""The published files, loaded by plain transformers, answer as the model that was judged."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.architectures import tiny, tiny_t5
from made.models import tiny_llama
from psomerge.evals.engines.engine import Answers, Batch, Continuation, Generation, Loglikelihood
from psomerge.evals.engines.transformers_engine import TransformersEngine
from psomerge.merge.basis import open_basis
from psomerge.merge.materialize import write_model
from psomerge.merge.methods.table import METHODS
from psomerge.recipe import Recipe, Source
from psomerge.tasks.release import consumer
from runs.engine_cases import SETTINGS, exam, plain

pytestmark = pytest.mark.heavy


def judged(folder: Path, batch: Batch) -> Answers:
    engine = TransformersEngine({"base": folder}, SETTINGS)
    engine.load(plain())
    return engine.answer(batch)


def asked(folder: Path, batch: Batch, expected: Answers) -> list[str]:
    return consumer.differences(folder, batch, expected, dtype="float32", threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Batch, Answers]:
    folder = tiny_llama(tmp_path_factory.mktemp("model") / "llama")
    return folder, exam(), judged(folder, exam())


def test_a_sound_copy_answers_as_it_was_judged(model: tuple[Path, Batch, Answers]) -> None:
    assert asked(*model) == []


def copied(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_neither_penalties_nor_a_tensor_that_its_class_leaves_aside_are_held_against_a_model(
    model: tuple[Path, Batch, Answers], tmp_path: Path
) -> None:
    folder, batch, expected = model
    copy = copied(folder, tmp_path / "copy")
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "do_sample": True, "temperature": 2.0}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    tensors = load_file(folder / "model.safetensors") | {"mtp.fc.weight": torch.ones(2)}
    save_file(tensors, str(copy / "model.safetensors"), metadata={"format": "pt"})
    assert asked(copy, batch, expected) == []


@pytest.mark.parametrize(
    ("text", "stop", "whole"), [("ab mo", ("more",), "ab "), ("ab", ("x",), "ab"), ("ab\ufffd", (), "ab")]
)
def test_what_the_last_token_only_began_is_not_compared(text: str, stop: tuple[str, ...], whole: str) -> None:
    assert consumer._whole(text, stop) == whole


def test_requests_behind_one_context_that_are_no_choices_are_asked_one_by_one() -> None:
    requests = tuple(Loglikelihood((1,), (n, n)) for n in range(2, 102))
    found = consumer._sample(Batch(requests), Answers((Continuation(-1.0, False),) * 100), 0.05)
    assert [len(indices) for indices in found] == [1] * consumer.CONTEXTS


def test_a_sequence_to_sequence_model_does(tmp_path: Path) -> None:
    folder = tiny_t5(tmp_path / "t5", 3, dtype=torch.float32)
    batch = Batch(exam().loglikelihood, (Generation((20, 30, 1), (), 12), Generation((40, 1), ("a",), 40)))
    assert asked(folder, batch, judged(folder, batch)) == []


def test_another_choice_than_the_judged_one_is_told(model: tuple[Path, Batch, Answers]) -> None:
    folder, batch, expected = model
    first, second, *others = expected.loglikelihood
    swapped = replace(expected, loglikelihood=(replace(first, logprob=-1.0), second, *others))
    assert first.logprob < max(one.logprob for one in expected.loglikelihood[:4])
    (problem,) = asked(folder, batch, swapped)
    assert problem.startswith("plain transformers answers request 0 otherwise: log-likelihoods [")


def test_another_text_is_told_and_one_that_leaves_at_a_near_tie_is_not(
    model: tuple[Path, Batch, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, batch, expected = model
    changed = replace(expected, generation=(expected.generation[0], "zzz", expected.generation[2]))
    (problem,) = asked(folder, batch, changed)
    assert problem.endswith("for text 1, judged was 'zzz'")
    monkeypatch.setitem(consumer.TOLERANCE, "float32", 1e9)  # every rival is as good
    assert asked(folder, batch, changed) == []


@pytest.mark.parametrize("special", [False, True])
def test_a_text_ends_where_the_engine_ends_it_with_special_tokens_or_without(tmp_path: Path, special: bool) -> None:
    """Token 257 ends a text by the tokenizer alone; 258 is special, and written where the request wants it."""
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path / "llama", vocab=259)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    content = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [{"id": 257, "content": "<end>", **flags}, {"id": 258, "content": "<mark>", **flags}]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<end>"}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    written = model.generate(torch.tensor([[40, 50, 60]]), max_new_tokens=1, do_sample=False)[0, -1]
    tensors = load_file(folder / "model.safetensors")
    rows = tensors["model.embed_tokens.weight"]
    rows[258] = rows[written] * 1.5  # likelier wherever that one was
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    prompts = tuple(Generation((40 + number, 50, 60), (), 24, special) for number in range(8))
    expected = judged(folder, Batch((), prompts))
    assert asked(folder, Batch((), prompts), expected) == []
    assert any("<mark>" in text for text in expected.generation) is special


def test_a_tensor_that_is_drawn_at_random_is_told(model: tuple[Path, Batch, Answers], tmp_path: Path) -> None:
    folder, batch, expected = model
    copy = copied(folder, tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, str(copy / "model.safetensors"), metadata={"format": "pt"})
    assert asked(copy, batch, expected) == ["plain transformers finds missing keys: model.layers.1.mlp.up_proj.weight"]


def test_a_copy_that_cannot_be_loaded_is_told(model: tuple[Path, Batch, Answers], tmp_path: Path) -> None:
    _, batch, expected = model
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    (problem,) = asked(tmp_path, batch, expected)
    assert problem.startswith("plain transformers cannot use it: ")


def with_two_heads(folder: Path, *, equal: bool, seed: int = 0) -> Path:
    """A Gemma as some trainers save it: the tied head twice in the files, and nothing about it in config.json."""
    tiny(folder, "gemma3_text", seed)
    tensors = load_file(folder / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].clone()
    tensors["lm_head.weight"] = head if equal else head + torch.randn_like(head) / 4
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_head_that_only_the_consumer_has_of_its_own_is_seen(tmp_path: Path) -> None:
    """Judged with a head that is the embedding; in the files it is another one."""
    expected = judged(with_two_heads(tmp_path / "judged", equal=True), exam())
    delivered = with_two_heads(tmp_path / "delivered", equal=False)
    assert any("answers request" in problem for problem in asked(delivered, exam(), expected))


SHARE = {"dare": "drop_rate", "ties": "density"}


@pytest.mark.parametrize("method", SHARE)
def test_a_merge_of_models_that_store_a_tied_head_twice_is_what_every_loader_judges(
    tmp_path: Path, method: str
) -> None:
    folders = {
        name: with_two_heads(tmp_path / name, equal=True, seed=seed)
        for seed, name in enumerate(("base", "one", "other"))
    }
    sources = [Source(name, "", "") for name in folders]
    recipe = METHODS[method].recipe(Recipe(sources[0], tuple(sources[1:])), [0.8, 0.6], **{SHARE[method]: 0.5})
    written = tmp_path / "merged"
    write_model(recipe, open_basis(folders), written)
    engine = TransformersEngine(folders, SETTINGS)
    engine.load(recipe)
    assert "lm_head.weight" not in load_file(written / "model.safetensors")
    assert json.loads((written / "config.json").read_text())["tie_word_embeddings"] is True
    assert asked(written, exam(), engine.answer(exam())) == []


def test_the_closest_choices_are_asked_first_and_the_rest_is_spread() -> None:
    draw = random.Random(0)
    requests = tuple(Loglikelihood((n,), (k,)) for n in range(100) for k in (1, 2))
    margins = [draw.uniform(0, 9) for _ in range(100)]
    given = Answers(tuple(Continuation(-margins[n] * k, False) for n in range(100) for k in (0, 1)))
    found = consumer._sample(Batch(requests), given, 0.05)
    first = [indices[0] // 2 for indices in found]
    assert len(set(first)) == consumer.CONTEXTS
    assert first[:16] == sorted((n for n in range(100) if margins[n] > 0.05), key=lambda n: margins[n])[:16]
    assert max(first[16:]) > 80
    assert min(first[16:]) < 20
