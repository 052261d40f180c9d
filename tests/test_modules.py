"""Whoever changes a module finds its test: it bears the module's name in the same room, or stands here."""

from places import ROOT

TESTED_IN = {
    "evals/benchmarks": "evals/benchmarks/test_shipped_suites.py",
    "evals/benchmarks/cldr/names": "evals/benchmarks/cldr/test_items.py",
    "evals/engines/engine": "evals/engines/process/test_serve.py",
    "evals/engines/host": "evals/engines/process/test_supervisor.py",
    "evals/engines/model_types": "evals/engines/test_choice.py",
    "evals/engines/pool": "tasks/search/test_judge.py",
    "evals/engines/prefix": "evals/engines/test_transformers_engine.py",
    "evals/engines/process": "evals/engines/process/test_supervisor.py",
    "evals/engines/scripted": "evals/engines/process/test_serve.py",
    "evals/engines/shell": "psomerge/vocabulary/test_merged_vocabulary.py",
    "evals/engines/vllm": "evals/engines/vllm/test_engine.py",
    "evals/engines/vllm/mixture_of_experts": "evals/engines/vllm/test_architectures.py",
    "evals/harness": "evals/harness/test_evaluation_set.py",
    "evals/harness/corpus": "evals/metrics/test_corpus.py",
    "evals/harness/fewshot": "evals/harness/test_prompting.py",
    "evals/harness/prompts": "evals/harness/test_prompting.py",
    "evals/harness/questions": "evals/harness/test_equal.py",
    "evals/harness/tally": "evals/metrics/test_corpus.py",
    "evals/harness/tasks": "evals/harness/test_backend.py",
    "evals/harness/template_process": "evals/harness/test_templates.py",
    "evals/metrics/spm": "evals/metrics/test_corpus.py",
    "evals/scorers": "evals/scorers/test_loading.py",
    "evals/scorers/comet_worker": "evals/scorers/test_comet.py",
    "evals/scorers/identifiers": "evals/scorers/test_language.py",
    "evals/scorers/judge_service": "evals/scorers/test_llm_judge.py",
    "evals/writing/digits": "evals/writing/test_numbers.py",
    "evals/writing/language_tags": "evals/scorers/test_language.py",
    "evals/stopping/policy": "tasks/search/test_judge.py",
    "evals/suites": "evals/suites/test_file.py",
    "evals/suites/scores": "evals/significance/test_intervals.py",
    "flows/commands/comparing": "runs/test_evaluation.py",
    "flows/commands/costs": "flows/commands/test_plan.py",
    "flows/commands/doctor": "flows/test_cli.py",
    "flows/config/schema": "flows/config/test_loading.py",
    "flows/environment": "runs/test_servers.py",
    "flows/evaluation": "runs/test_evaluation.py",
    "flows/merge": "runs/test_merge.py",
    "flows/stages": "runs/test_merge.py",
    "flows/terminal/leaderboard": "tasks/report/test_leaderboard.py",
    "flows/terminal/leaderboard_words": "tasks/report/test_leaderboard.py",
    "flows/terminal/plan": "flows/commands/test_plan.py",
    "psomerge/__main__": "flows/test_cli.py",
    "psomerge/arithmetic": "psomerge/merge/test_basis.py",
    "psomerge/arithmetic/low_rank": "psomerge/checkpoint/test_adapter.py",
    "psomerge/arithmetic/randomness": "psomerge/search/test_pso.py",
    "psomerge/checkpoint": "psomerge/checkpoint/test_reader.py",
    "psomerge/checkpoint/adapter_config": "psomerge/checkpoint/test_adapter.py",
    "psomerge/checkpoint/adapter_parts": "psomerge/checkpoint/test_adapter_keys.py",
    "psomerge/checkpoint/finite": "psomerge/fit/test_misfits.py",
    "psomerge/checkpoint/headers": "flows/commands/test_plan.py",
    "psomerge/checkpoint/layers": "psomerge/merge/test_basis.py",
    "psomerge/checkpoint/shards": "psomerge/checkpoint/test_writer.py",
    "psomerge/errors": "flows/test_cli.py",
    "psomerge/files": "psomerge/run/test_folder.py",
    "psomerge/files/names": "runs/test_usable_output.py",
    "psomerge/files/staging": "psomerge/checkpoint/test_writer.py",
    "psomerge/files/untrusted": "psomerge/screening/test_malformed.py",
    "psomerge/fit": "tasks/experts/test_check.py",
    "psomerge/merge/grouping": "psomerge/merge/test_basis.py",
    "psomerge/merge/methods": "psomerge/merge/methods/test_methods.py",
    "psomerge/recipe": "psomerge/merge/test_materialize.py",
    "psomerge/run/journal": "psomerge/run/test_folder.py",
    "psomerge/screening": "psomerge/screening/test_companions.py",
    "psomerge/screening/hard_texts": "psomerge/screening/test_pattern_time.py",
    "psomerge/screening/pattern_items": "psomerge/screening/test_pattern_time.py",
    "psomerge/screening/pattern_process": "psomerge/screening/test_pattern_time.py",
    "psomerge/search": "psomerge/search/test_searches.py",
    "psomerge/vocabulary": "psomerge/vocabulary/test_merged_vocabulary.py",
    "tasks/building/embedded": "tasks/building/embedded/test_models.py",
    "tasks/experts": "tasks/experts/test_check.py",
    "tasks/experts/numbering": "psomerge/vocabulary/test_merged_vocabulary.py",
    "tasks/experts/rebuild": "psomerge/merge/test_materialize.py",
    "tasks/experts/sparsify": "tasks/search/test_steps.py",
    "tasks/release/champion": "runs/test_merge.py",
    "tasks/release/delivery": "tasks/sources/test_registered.py",
    "tasks/release/flavour": "runs/test_seq2seq.py",
    "tasks/report": "tasks/report/test_summary.py",
    "tasks/report/leaderboard_figure": "tasks/report/test_leaderboard.py",
    "tasks/search": "tasks/search/test_steps.py",
    "tasks/search/book": "tasks/search/test_judge.py",
    "tasks/search/evaluate": "runs/test_evaluation.py",
    "tasks/search/journal_memory": "evals/harness/test_scorers_in_suites.py",
    "tasks/search/run_identity": "runs/test_resume.py",
    "tasks/secrets": "tasks/sources/hub/test_hub.py",
    "tasks/services": "tasks/services/test_servers.py",
    "tasks/sources": "tasks/sources/test_fetch.py",
    "tasks/sources/hub": "tasks/sources/hub/test_hub.py",
    "tasks/sources/registry": "tasks/release/test_registry.py",
    "tasks/sources/s3": "tasks/sources/s3/test_s3.py",
    "tasks/tracking/store": "tasks/tracking/test_run.py",
}
"""A module, or all of a room that stand nowhere else, and the test where it is tested."""


def test_every_module_has_a_test_of_its_name_or_stands_in_the_list() -> None:
    modules = [
        path.relative_to(ROOT).with_suffix("")
        for room in ("psomerge", "evals", "tasks", "flows")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "__init__.py"
    ]
    own = {one for one in modules if (ROOT / "tests" / one.parent / f"test_{one.name}.py").is_file()}
    listed = {
        one: next((str(place) for place in (one, *one.parents) if str(place) in TESTED_IN), None)
        for one in modules
        if one not in own
    }
    assert [str(one) for one, place in listed.items() if place is None] == []
    assert set(TESTED_IN) - set(listed.values()) == set()  # what is gone, or has a test of its own by now
    assert [test for test in TESTED_IN.values() if not (ROOT / "tests" / test).is_file()] == []
