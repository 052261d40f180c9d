"""Sequence-to-sequence models: prompts cut as lm-evaluation-harness cuts them, answers as its own Hugging Face backend
gives them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from made.architectures import tiny_t5, tiny_t5gemma
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.evals.engines.engine import Batch, Generation, Loglikelihood
from psomerge.evals.engines.transformers_engine import TransformersEngine
from psomerge.evals.harness import build
from psomerge.evals.harness.encoding import Encoder
from psomerge.evals.suites.file import load_suite
from runs.engine_cases import SETTINGS, Hearing, begins, mixed, plain

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

MARGIN = 1e-4
SUITE = """\
name: paired
salt: paired-1
shares: {optimisation: 0.1, validation: 0.1, test: 0.3}
group: concept
include: [cldr]
limits: {test: 20}
benchmarks:
  - {task: cldr_pick, languages: [so, eu], metric: acc}
  - {task: cldr_kind, languages: [en], metric: acc}
  - {task: cldr_say, languages: [tk], metric: exact_match}
"""
ROOM = 24
"""Tokens of an answer to `cldr_say`."""
WORDS = ("so", "no", "two", "ten", "red", "sea", "oak", "ice")


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"), 3, steps=150, tied=request.param, dtype=torch.float32)


def prompts(model: Path) -> list[Generation]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [Generation(tuple(tokenizer.encode(f"Word: {word}. Answer:")), (".",), 12) for word in WORDS]


def test_choices_and_texts_are_those_of_the_harnesss_own_backend(model: Path, tmp_path: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from psomerge.evals.harness.tasks import OWN_TASKS

    (tmp_path / "paired.yaml").write_text(SUITE)
    evaluation = build(load_suite(tmp_path / "paired.yaml"), "test", model)
    engine = TransformersEngine({"base": model}, SETTINGS)
    engine.load(plain())
    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=8)
    clear = texts = 0
    for (score, examples), one in zip(
        evaluation.examine(engine.answer(evaluation.batch)), evaluation.prepared, strict=True
    ):
        task = one.benchmark.task
        manager = TaskManager(
            include_path=[OWN_TASKS / "cldr"], include_defaults=False, metadata={"language": one.benchmark.language}
        )
        samples = {task: list(one.items.indices)}
        found = simple_evaluate(
            lm, tasks=[task], task_manager=manager, samples=samples, bootstrap_iters=0, log_samples=True, num_fewshot=0
        )
        theirs = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
        for example, value, sample in zip(examples, score.values, theirs, strict=True):
            if example.output is not None:
                texts += len(example.output) > 0
                said = sample["resps"][0][0]
                if example.output != said:
                    # The harness gives an encoder-decoder as much more room as its prompt is long; the task's is ours.
                    assert said.startswith(example.output)
                    assert len(lm.tok_encode(example.output, add_special_tokens=False)) >= ROOM
                assert value == sample["exact_match"]
                continue
            logprobs = [float(response[0]) for response in sample["filtered_resps"]]
            assert list(example.logprobs) == pytest.approx(logprobs, abs=1e-4)
            first, second = sorted(logprobs, reverse=True)[:2]
            if first - second > MARGIN:
                clear += 1
                assert (example.extracted, value) == (example.choices[logprobs.index(first)], sample["acc"])
    assert clear >= 55  # of 60 questions with choices
    assert texts == 20


def test_a_prompt_is_cut_by_itself_and_an_answer_has_room_of_its_own(model: Path) -> None:
    from lm_eval.api.instance import Instance

    # 256 positions: as a causal model's, a prompt of 250 letters and an answer of 20 would lose the prompt's start.
    instance = Instance(request_type="loglikelihood", doc={}, arguments=("a" * 250 + " ", "b" * 20), idx=0)
    (request,) = Encoder(model).loglikelihood([instance])
    letter = 2 + 64  # padding, end, then bytes in byte-level order: "!" is the first printable one, number 2
    assert request.context == (letter,) * 250 + (1,)
    assert len(request.continuation) == 21  # the space goes over to the answer, which is not closed
    assert 1 not in request.continuation


def test_texts_are_the_library_s_own_greedy_search_whatever_is_in_a_batch_with_them(model: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    reference, tokenizer = (
        AutoModelForSeq2SeqLM.from_pretrained(model, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(model),
    )
    asked = prompts(model)
    expected = []
    for request in asked:
        made = reference.generate(torch.tensor([request.prompt]), do_sample=False, max_new_tokens=12)[0]
        expected.append(tokenizer.decode(made, skip_special_tokens=True).partition(".")[0])
    assert len(set(expected)) > 3  # it was trained to repeat the word
    for together in (1, 3, 8):
        engine = TransformersEngine({"base": model}, replace(SETTINGS, max_num_seqs=together))
        engine.load(plain())
        assert engine.generate(asked) == expected


def test_a_text_begins_as_the_library_begins_it_where_no_config_says_how(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = tiny_t5gemma(tmp_path / "gemma")
    assert "decoder_start_token_id" not in (folder / "config.json").read_text()
    reference = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = TransformersEngine({"base": folder}, SETTINGS)
    engine.load(plain())
    context, continuation = (40, 41, 42, 1), (50, 60, 70)
    # The library shifts the labels to the right by itself.
    loss = reference(input_ids=torch.tensor([context]), labels=torch.tensor([continuation])).loss
    (answer,) = engine.loglikelihood([Loglikelihood(context, continuation)])
    assert answer.logprob == pytest.approx(-3 * loss.item(), abs=1e-4)
    made = reference.generate(torch.tensor([context]), do_sample=False, max_new_tokens=8)[0]
    text = AutoTokenizer.from_pretrained(folder).decode(made[1:], skip_special_tokens=True)
    assert text
    assert engine.generate([Generation(context, (), 8)]) == [text]


def test_who_listens_changes_no_bit_and_may_end_it(model: Path) -> None:
    engine = TransformersEngine({"base": model}, replace(SETTINGS, max_num_seqs=3))
    engine.load(plain())
    batch = Batch(tuple(Loglikelihood((5, 6, 1), (7 + number, 9)) for number in range(7)), tuple(prompts(model)))
    whole, hearing = engine.answer(batch), Hearing(range(1, 15))
    assert engine.answer(batch, hearing) == whole
    assert [len(part.loglikelihood) + len(part.generation) for part in hearing.heard] == [3, 6, 7, 10, 13]
    ended = engine.answer(batch, Hearing(range(9, 15), 1))
    assert begins(whole, ended)
    assert (len(ended.loglikelihood), len(ended.generation)) == (7, 3)
    assert ended.tokens < whole.tokens


def test_a_merged_model_answers_as_its_checkpoint_does(tmp_path: Path) -> None:
    from runs.engine_cases import materialised

    folders = {name: tiny_t5(tmp_path / name, seed) for seed, name in enumerate(("base", "first", "second"))}
    recipe = mixed(0.7, 0.4)
    batch = Batch(
        tuple(Loglikelihood((5, 6, 1), (7 + number, 9)) for number in range(7)), tuple(prompts(folders["base"]))
    )
    merged, written = (
        TransformersEngine(folders, SETTINGS),
        TransformersEngine({"base": materialised(tmp_path / "written", folders, recipe)}, SETTINGS),
    )
    merged.load(mixed(-0.3, 1.1))
    merged.load(recipe)
    written.load(plain())
    assert merged.answer(batch) == written.answer(batch)


def with_own_head(folder: Path) -> Path:
    """The files of Flan-T5 as its authors published them: a head of its own, and the shared embedding three times."""
    tiny_t5(folder, 5, dtype=torch.float32)
    tensors = load_file(folder / "model.safetensors")
    shared = tensors["shared.weight"]
    head = torch.randn(shared.shape, generator=torch.Generator().manual_seed(0))
    copies = {f"{part}.embed_tokens.weight": shared.clone() for part in ("encoder", "decoder")}
    save_file(tensors | copies | {"lm_head.weight": head}, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def test_a_head_of_its_own_is_not_written_over_the_embedding(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    folder = with_own_head(tmp_path / "t5")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = TransformersEngine({"base": folder}, SETTINGS)
    engine.load(plain())
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[10, 20, 30]]), decoder_input_ids=torch.tensor([[0, 40]])).logits[0]
    expected = sum(float(row.log_softmax(-1)[token]) for row, token in zip(logits.double(), (40, 50), strict=True))
    (answer,) = engine.loglikelihood([Loglikelihood((10, 20, 30), (40, 50))])
    assert answer.logprob == pytest.approx(expected, abs=1e-4)


def test_copies_of_the_shared_embedding_are_one_tensor_with_it(tmp_path: Path) -> None:
    opened = open_checkpoint(with_own_head(tmp_path / "t5"))
    assert [name for name in opened.tensors if "embed_tokens" in name] == []
    assert {"shared.weight", "lm_head.weight"} <= opened.tensors.keys()
