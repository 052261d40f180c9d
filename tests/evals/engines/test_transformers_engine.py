from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.models import tiny_llama
from psomerge.errors import EngineError
from psomerge.evals.engines.engine import Batch, Generation, Loglikelihood, ModelError
from psomerge.evals.engines.transformers_engine import TransformersEngine
from runs.engine_cases import SETTINGS, Hearing, begins, exam, family, mixed, plain, questions

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return family(tmp_path_factory.mktemp("family"), tied=request.param)


def reference(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def test_log_likelihoods_are_the_sums_over_one_unpadded_softmax(folders: dict[str, Path]) -> None:
    engine, model = TransformersEngine(folders, SETTINGS), reference(folders["first"])
    engine.load(mixed(1.0, 0.0))  # the first expert itself
    requests = exam().loglikelihood
    for request, answer in zip(requests, engine.loglikelihood(requests), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([request.context + request.continuation])).logits[0].double()
        # log softmax written out: logit of the token less the log of the sum of exponentials.
        rows = logits[len(request.context) - 1 : -1]
        expected = sum(
            float(row[token] - row.max()) - log(float((row - row.max()).exp().sum()))
            for row, token in zip(rows, request.continuation, strict=True)
        )
        assert answer.logprob == pytest.approx(expected, abs=1e-4)
        assert answer.greedy == all(
            int(row.argmax()) == token for row, token in zip(rows, request.continuation, strict=True)
        )


def test_equal_requests_have_equal_bits_and_answers_keep_the_order(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(folders, SETTINGS)
    engine.load(mixed(0.5, 0.5))
    requests = exam().loglikelihood
    answers = engine.loglikelihood(requests)
    assert engine.loglikelihood(requests) == answers
    reversed_answers = engine.loglikelihood(requests[::-1])[::-1]
    assert [answer.logprob for answer in reversed_answers] == pytest.approx(
        [answer.logprob for answer in answers], abs=1e-4
    )


def test_generation_is_the_library_s_own_greedy_search(folders: dict[str, Path]) -> None:
    engine, model = TransformersEngine(folders, SETTINGS), reference(folders["base"])
    engine.load(plain_of(folders))
    prompt = tuple(range(40, 52))
    made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24, pad_token_id=0)[0, len(prompt) :]
    text = engine._tokenizer.decode(made, skip_special_tokens=True)
    assert engine.generate([Generation(prompt, (), 24)]) == [text]
    middle = text[len(text) // 2]
    assert engine.generate([Generation(prompt, ("", "\0", middle), 24)]) == [text[: text.index(middle)]]


def plain_of(folders: dict[str, Path]):
    return mixed(*[0.0] * (len(folders) - 1), experts=tuple(name for name in folders if name != "base"))


def test_a_model_that_comes_back_answers_with_the_same_bits(folders: dict[str, Path]) -> None:
    engine, batch = TransformersEngine(folders, SETTINGS), Batch(tuple(questions()[2]))
    answers = []
    for recipe in (mixed(0.7, 0.4), mixed(-0.3, 1.1), mixed(0.7, 0.4)):
        engine.load(recipe)
        answers.append(engine.loglikelihood(batch.loglikelihood))
    assert answers[0] == answers[2] != answers[1]


def test_who_listens_changes_no_bit_and_may_end_it(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(folders, replace(SETTINGS, max_num_batched_tokens=500))
    engine.load(mixed(0.7, 0.4))
    batch = exam()
    whole, hearing = engine.answer(batch), Hearing(range(1, 52))
    assert (whole.loglikelihood, list(whole.generation)) == (
        tuple(engine.loglikelihood(batch.loglikelihood)),
        engine.generate(batch.generation),
    )
    assert engine.answer(batch, hearing) == whole
    assert len(hearing.heard) > 5
    assert all(begins(whole, part) for part in hearing.heard)
    for stops in (range(20, 52), range(50, 52)):
        ended = engine.answer(batch, Hearing(stops, 1))
        assert begins(whole, ended)
        assert stops[0] <= len(ended.loglikelihood) + len(ended.generation) < 52
        assert ended.tokens < whole.tokens


def test_values_that_are_not_finite_are_refused_and_nothing_is_answered(folders: dict[str, Path]) -> None:
    engine = TransformersEngine(folders, SETTINGS)
    with pytest.raises(ModelError, match="not finite"):
        engine.load(mixed(1e39, 0.0))  # infinite in float32
    with pytest.raises(EngineError, match="load a recipe first"):
        engine.loglikelihood([Loglikelihood((1,), (2,))])


def test_a_tensor_that_no_checkpoint_holds_is_an_error(tmp_path: Path) -> None:
    folder = tiny_llama(tmp_path / "base", tied=False)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"no tensor for 'model\.norm\.weight'"):
        TransformersEngine({"base": folder}, SETTINGS).load(plain())
