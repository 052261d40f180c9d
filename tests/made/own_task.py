"""A suite of one task over a file of rows, as somebody's own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from psomerge.evals.suites.file import load_suite

CHOOSE: dict[str, Any] = {
    "task": "own",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [
        {"metric": one, "aggregation": "mean", "higher_is_better": True} for one in ("acc", "acc_norm", "exact_match")
    ],
}
WRITE: dict[str, Any] = {
    "task": "own",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "label",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 32},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def rows_of(task: Mapping[str, Any], count: int = 20) -> list[dict[str, Any]]:
    """Returns rows that differ, Q0? to Q19?, with a label that some answer matches."""
    rows = [{"question": f"Q{n}?", "choices": [f"A{n}", f"B{n}", "C"], "label": n % 3} for n in range(count)]
    if task["output_type"] == "generate_until":
        return [row | {"label": f"A{n}"} for n, row in enumerate(rows)]
    return rows


def suite_of(
    folder: Path, task: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], metric: str, **entry: Any
) -> Any:
    """Writes rows, task and suite into a folder and returns the suite, all of whose items belong to some split."""
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "tasks").mkdir(exist_ok=True)
    files = {"dataset_kwargs": {"data_files": {"test": str(folder / "own.jsonl")}}}
    (folder / "tasks" / "own.yaml").write_text(yaml.safe_dump({**files, **task}))
    if "filter_list" in task:
        entry["filter"] = task["filter_list"][0]["name"]
    suite = {
        "name": "own",
        "salt": "own",
        "shares": {"optimisation": 0.3, "validation": 0.3, "test": 0.4},
        "include": ["tasks"],
        "benchmarks": [{"task": "own", "metric": metric} | entry],
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(suite))
    return load_suite(folder / "own.yaml")
