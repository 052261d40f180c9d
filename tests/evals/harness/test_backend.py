"""The same float32 checkpoint asked by vLLM here and by lm-evaluation-harness's own Hugging Face backend: the same
choices, the same texts."""

from pathlib import Path

import pytest
import torch

from made.models import tiny_llama
from psomerge.checkpoint.pins import pin
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.harness import build
from psomerge.evals.suites.file import load_suite
from psomerge.recipe import Recipe

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

MARGIN = 1e-4
"""Natural-log probability. Two engines that add in another order may choose differently below it."""
SUITE = """\
name: both
salt: both-1
shares: {optimisation: 0.1, validation: 0.1, test: 0.3}
group: concept
include: [cldr]
limits: {test: 20}
PROMPTING
benchmarks:
  - {task: cldr_pick, languages: [so, eu], metric: acc}
  - {task: cldr_kind, languages: [en], metric: acc}
  - {task: cldr_say, languages: [tk], metric: exact_match}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    from transformers import AutoTokenizer

    folder = tiny_llama(tmp_path_factory.mktemp("float32"), 5, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}{% endfor %}{% if add_generation_prompt "
        "%}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(model, tmp_path_factory):
    work = tmp_path_factory.mktemp("engine")
    settings = EngineSettings(dtype="float32", max_model_len=256, kv_cache_bytes=2**26)
    judge = SupervisedEngine({"base": model}, "vllm", settings, work=work, log=work / "log")
    yield judge
    judge.close()


def theirs(task: str, language: str, model: Path, samples: list[int], **settings) -> list[dict]:
    """Samples as the harness logs them, in the order of the documents."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from psomerge.evals.harness.tasks import OWN_TASKS

    lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=8)
    manager = TaskManager(include_path=[OWN_TASKS / "cldr"], include_defaults=False, metadata={"language": language})
    found = simple_evaluate(
        lm, tasks=[task], task_manager=manager, samples={task: samples}, bootstrap_iters=0, log_samples=True, **settings
    )
    assert found is not None
    return sorted(found["samples"][task], key=lambda sample: sample["doc_id"])


@pytest.mark.parametrize(
    ("prompting", "settings"),
    [
        ("", {"num_fewshot": 0}),
        (
            "prompting: {chat_template: true, system_instruction: Answer.}",
            {"num_fewshot": 0, "apply_chat_template": True, "system_instruction": "Answer."},
        ),
    ],
)
def test_choices_and_texts_are_those_of_the_harnesss_own_backend(tmp_path, model, engine, prompting, settings):
    (tmp_path / "both.yaml").write_text(SUITE.replace("PROMPTING", prompting))
    evaluation = build(load_suite(tmp_path / "both.yaml"), "test", model)
    engine.put("both", evaluation.batch)
    scored = evaluation.examine(engine.judge(Recipe(pin(model, "base", str(model)), ()), "both"))
    clear = 0
    for (score, examples), one in zip(scored, evaluation.prepared, strict=True):
        samples = theirs(one.benchmark.task, one.benchmark.language, model, list(one.items.indices), **settings)
        assert len(samples) == len(examples) == 20
        for example, value, sample in zip(examples, score.values, samples, strict=True):
            assert (
                example.prompt == sample["arguments"]["gen_args_0"]["arg_0"]
                if isinstance(sample["arguments"], dict)
                else sample["arguments"][0][0]
            )
            if example.output is not None:
                assert (example.output, example.extracted) == (sample["resps"][0][0], sample["filtered_resps"][0])
                assert value == sample["exact_match"]
                continue
            logprobs = [float(response[0]) for response in sample["filtered_resps"]]
            assert list(example.logprobs) == pytest.approx(logprobs, abs=2e-3)
            first, second = sorted(logprobs, reverse=True)[:2]
            if first - second > MARGIN:
                clear += 1
                assert example.extracted == example.choices[logprobs.index(first)]
                assert value == sample["acc"]
    assert clear >= 55  # of 60 questions with choices
    assert len({value for score, _ in scored for value in score.values}) == 2
