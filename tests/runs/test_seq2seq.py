"""A sequence-to-sequence model through the whole pipeline: searched for, verified, registered, loaded again by somebody
who has nothing of ours."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from made.architectures import tiny_t5
from runs.small_run import SUITE, Small, small_run

pytestmark = pytest.mark.heavy

CONSUMER = """
import json, sys
import mlflow
assert not {"psomerge", "evals", "tasks", "flows"} & set(sys.modules)
mlflow.set_tracking_uri(sys.argv[1])
parts = mlflow.transformers.load_model(sys.argv[2], return_type="components")
model, tokenizer = parts["model"], parts["tokenizer"]
(answer,) = model.generate(**tokenizer("Word: two. Answer:", return_tensors="pt"), max_new_tokens=8)
told = [type(model).__name__, str(model.dtype), tokenizer.decode(answer, skip_special_tokens=True)]
for load in (mlflow.transformers.load_model, mlflow.pyfunc.load_model):
    try:
        load(sys.argv[2])
        told.append("loaded")
    except Exception as error:
        told.append(str(error))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, subprocess.CompletedProcess[str]]:
    benchmarks = [
        *SUITE["benchmarks"],
        {"task": "cldr_say", "name": "say-{language}", "languages": ["tk"], "metric": "exact_match"},
    ]
    small = small_run(tmp_path_factory.mktemp("paired"), engine="auto", make=partial(tiny_t5, steps=60))
    (small.folder / "suite.yaml").write_text(yaml.safe_dump(SUITE | {"benchmarks": benchmarks}, sort_keys=False))
    done = small.psomerge("run", str(small.config), "--json")
    assert done.returncode == 0, done.stderr[-4000:]
    return small, done


def result_of(run: tuple[Small, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    return json.loads(run[1].stdout)


def test_the_run_says_that_it_takes_the_transformers_engine_and_why(run) -> None:
    small, done = run
    assert "vLLM does not run T5ForConditionalGeneration: models are judged by the transformers engine" in done.stderr
    (folder,) = small.runs
    assert json.loads((folder / "run.json").read_text())["identity"]["engine"]["kind"] == "transformers"
    summary = json.loads((folder / "report" / "summary.json").read_text())
    assert "(vLLM does not run T5ForConditionalGeneration)" in summary["provenance"]["engine"]
    assert "vLLM does not run T5ForConditionalGeneration" in (folder / "report" / "index.html").read_text()


def test_the_registered_version_is_verified_and_answers_as_its_checkpoint(run, tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    result = result_of(run)
    assert result["promoted"] is not None
    command = [sys.executable, "-P", "-c", CONSUMER, result["tracking_uri"], result["model_uri"]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    name, dtype, text, as_pipeline, as_pyfunc = json.loads(done.stdout.splitlines()[-1])
    model, tokenizer = (kind.from_pretrained(result["checkpoint"]) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    (expected,) = model.generate(**tokenizer("Word: two. Answer:", return_tensors="pt"), max_new_tokens=8)
    assert (name, dtype, text) == (
        "T5ForConditionalGeneration",
        "torch.bfloat16",
        tokenizer.decode(expected, skip_special_tokens=True),
    )
    # transformers 5 would build a pipeline that answers with the prompt alone: no silent nonsense.
    assert "text2text-generation has been removed" in as_pipeline
    assert "python_function" in as_pyfunc


def test_the_card_shows_the_call_that_works(run) -> None:
    (folder,) = run[0].runs
    card = (folder / "published" / "README.md").read_text()
    assert 'return_type="components"' in card
    assert "pipeline_tag: text2text-generation" in card
    assert "vllm serve" not in card


def test_vllm_by_name_is_refused_before_anything_is_judged(run) -> None:
    small, _ = run
    done = small.psomerge("run", str(small.config), "--set", "engine.kind=vllm", timeout=200)
    assert done.returncode == 2
    assert (
        "engine.kind is vllm, but vLLM does not run T5ForConditionalGeneration; set engine.kind to transformers"
        in done.stderr
    )
    assert len(small.runs) == 1


def test_the_same_command_prints_the_result_and_how_to_load_it(run) -> None:
    small, _ = run
    done = small.psomerge("run", str(small.config), timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'return_type="components"' in done.stdout
    assert "api_server" not in done.stdout
