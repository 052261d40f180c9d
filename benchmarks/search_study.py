"""Does the search find better models than tuned baselines? The real flow over expert seeds x search seeds x numbers of
experts, test split.

A pair of seeds is one `psomerge run` in one PSOMERGE_HOME; a finished run prints its stored result again, so the study
goes on where it was stopped. The suite asks about the languages that the experts know, and no others.
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

EXPERTS = {2: ("so", "skill"), 3: ("so", "tk", "skill"), 4: ("so", "tk", "eu", "skill")}
REFERENCE = "PSO, star swarm"


def arguments(parser: ArgumentParser) -> None:
    # The training recipe was settled while the test items of experts 0 to 2 could be seen.
    parser.add_argument("--expert-seeds", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--search-seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--experts", type=int, nargs="+", default=[4], choices=sorted(EXPERTS))
    parser.add_argument("--home", type=Path, help="PSOMERGE_HOME of the study; the present one unless given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="laid over every run's config")


def run(options: Namespace, scratch: Path) -> dict[str, Any]:
    """Returns the table of every number of experts."""
    home = options.home or Path(os.environ.get("PSOMERGE_HOME", ".psomerge"))
    folder = home / "study"  # not in scratch: the suite's path is part of a run's key
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for n in options.experts:
        pairs = [(e, s) for e in options.expert_seeds for s in options.search_seeds]
        results: list[Mapping[str, float]] = []
        for e, s in pairs:
            config = write_config(folder, n, expert_seed=e, search_seed=s)
            results.append(test_means(result_of(config, home, options.set)))
            print(
                f"  {n} experts, expert seed {e}, search seed {s}: {REFERENCE} {100 * results[-1][REFERENCE]:.1f}",
                file=sys.stderr,
                flush=True,
            )
        found[f"{n} experts, {len(pairs)} pairs"] = table(results)
    return found


def write_config(folder: Path, n: int, *, expert_seed: int, search_seed: int) -> Path:
    """Returns a config like the quickstart's with `n` experts of one seed. The file's name does not enter the run
    key."""
    from psomerge.flows.config.loading import configs_folder

    content = yaml.safe_load((configs_folder() / "quickstart.yaml").read_text())
    content |= {
        "name": f"study-n{n}",
        "base": f"embedded://base@{expert_seed}",
        "experts": {name: f"embedded://{name}@{expert_seed}" for name in EXPERTS[n]},
        "suite": write_suite(folder, n).name,
        "seed": search_seed,
        "register": {"model": f"psomerge-study-n{n}"},
    }
    path = folder / f"study-n{n}-e{expert_seed}-s{search_seed}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_suite(folder: Path, n: int) -> Path:
    """Returns the file of a suite like the quickstart's with English and the languages of `n` experts."""
    from psomerge.flows.config.loading import configs_folder

    content = yaml.safe_load((configs_folder() / "suites" / "quickstart.yaml").read_text())
    for entry in content["benchmarks"]:
        entry["languages"] = [language for language in entry["languages"] if language in (*EXPERTS[n], "en")]
    path = folder / f"study-n{n}-suite.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def result_of(config: Path, home: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the result of the run, made now or long ago.

    Raises:
        RuntimeError: the run failed; the same command goes on from there.
    """
    command = [
        f"{sysconfig.get_path('scripts')}/psomerge",
        "run",
        str(config),
        "--json",
        *(word for one in overrides for word in ("--set", one)),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PSOMERGE_HOME": str(home.resolve())}, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}; the same benchmark goes on from here")
    return json.loads(done.stdout)


def test_means(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the test means of a run's result by method: a tuned baseline without its setting, and the best expert
    beside all of them."""
    means = {
        re.sub(r" \(.*\)$", "", label): score["mean"] for label, score in result["scores"].items() if score is not None
    }
    experts = [value for label, value in means.items() if label.startswith("expert ")]
    return means | ({"best expert": max(experts)} if experts else {})


def table(results: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Returns, for every method that all runs have: the mean over runs, its paired difference to the star swarm, that
    one's standard error, and the share of runs in which the method is better than the star swarm, best mean first."""
    methods = set.intersection(*(set(one) for one in results))
    rows: dict[str, dict[str, float]] = {}
    for method in sorted(methods, key=lambda method: -mean(one[method] for one in results)):
        differences = [one[method] - one[REFERENCE] for one in results]
        rows[method] = {
            "mean": mean(one[method] for one in results),
            "minus_star": mean(differences),
            "standard_error": stdev(differences) / sqrt(len(differences)) if len(differences) > 1 else float("inf"),
            "wins_against_star": sum(one > 0 for one in differences),
            "ties_with_star": sum(one == 0 for one in differences),
        }
    return rows
