"""A made-up run for tests of the report: 4 experts, 7 benchmarks, 9 particles, 5 steps."""

import random

from psomerge.evals.significance.intervals import Interval
from psomerge.tasks.report.summary import Comparison, Model, Provenance, Registration, Row, Split, Summary
from psomerge.tasks.search.history import Candidate, Particle, SearchStep

NAMES = ("pick-so", "kind-so", "pick-tk", "kind-tk", "pick-eu", "kind-eu", "kind-en")
ITEMS = (141, 166, 161, 166, 145, 160, 166)
SCORES = {
    "base": (41, 24, 42, 21, 38, 20, 21),
    "expert so": (81, 29, 48, 26, 41, 27, 29),
    "expert tk": (41, 28, 85, 27, 47, 22, 30),
    "expert eu": (43, 24, 51, 22, 88, 28, 28),
    "expert skill": (35, 46, 37, 31, 39, 39, 83),
    "plain average": (52, 31, 61, 31, 57, 31, 36),
    "task arithmetic (scale .5)": (62, 41, 62, 46, 67, 45, 49),
    "TIES (density .2, scale 1)": (54, 40, 58, 51, 61, 56, 59),
    "PSO paper": (51, 43, 53, 42, 45, 40, 64),
    "PSO star": (64, 54, 56, 51, 58, 52, 70),
}
EXPERTS = ("so", "tk", "eu", "skill")
BEST = (0.6103125, 0.548, 0.512, 0.6401)


def estimate(mean: float, n: int) -> Interval:
    half = 1.96 * (mean * (1 - mean) / n) ** 0.5
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n)


def pooled(scores: tuple[float, ...], items: tuple[int, ...]) -> Interval:
    return estimate(sum(scores) / len(scores) / 100, sum(items))


def table_row(label: str) -> Row:
    scores = SCORES[label]
    kind = (
        "base"
        if label == "base"
        else "expert"
        if label.startswith("expert")
        else "search"
        if label.startswith("PSO")
        else "baseline"
    )
    languages = {
        language: pooled(
            *zip(
                *[(s, n) for s, n, name in zip(scores, ITEMS, NAMES, strict=True) if name.endswith(language)],
                strict=True,
            )
        )
        for language in ("so", "tk", "eu", "en")
    }
    mean = pooled(scores, ITEMS)
    spent = {"search": 45, "baseline": 9}.get(kind, 0) if label != "plain average" else 1
    coefficients = {
        "PSO star": (BEST,),
        "plain average": ((0.25,) * 4,),
        "task arithmetic (scale .5)": ((0.5,) * 4,),
        "PSO paper": ((0.0, 0.0, 0.1, 0.9, 0, 0, 0, 0.02),),
    }
    benchmarks = {name: estimate(score / 100, n) for name, score, n in zip(NAMES, scores, ITEMS, strict=True)}
    return Row(label, kind, mean, benchmarks, languages, spent, coefficients.get(label, ()), mean.mean - 0.004)


def history() -> tuple[SearchStep, ...]:
    draw = random.Random(3)
    steps, best = [], 0.0
    for number in range(5):
        particles = []
        for index in range(9):
            fitness = [0.291, 0.40, 0.397, 0.41, 0.446, 0.55, 0.541, 0.53, 0.56][index] + (
                0.15 if index < 5 else 0.02
            ) * draw.random() * number**0.5
            position = tuple(round(draw.uniform(0, 0.8), 4) for _ in EXPERTS)
            if (number, index) == (2, 3):
                particles.append(Particle((position,), None, "engine: pick-tk answered NaN for 3 of 106 items"))
            else:
                particles.append(Particle((position,), fitness, judged=(number, index) not in ((1, 8), (3, 8))))
                best = max(best, fitness)
        steps.append(SearchStep(tuple(particles), best))
    return tuple(steps)


def recipe() -> dict:
    def source(name: str) -> dict:
        return {
            "name": name,
            "source": f"embedded://{name}@0",
            "revision": f"{len(name):040x}",
            "files": {"model.safetensors": f"{len(name) + 7:064x}"},
        }

    return {
        "format": 1,
        "base": source("base"),
        "experts": [source(name) for name in EXPERTS],
        "method": "coefficients",
        "coefficients": [list(BEST)],
        "grouping": "model",
        "drop_rate": 0.8,
        "mask_seed": 0,
        "parameters": {},
        "dtype": "base",
        "tokenizer_from": "base",
        "psomerge": "0.1.0",
    }


def example() -> Summary:
    """A complete run with every optional part; `dataclasses.replace` takes parts away."""
    models = [
        Model(name, f"embedded://{name}@0", f"{len(name):040x}", f"{len(name) + 3:064x}") for name in ("base", *EXPERTS)
    ]
    versions = {"psomerge": "0.1.0", "torch": "2.13.0", "vllm": "0.32.0", "transformers": "5.19.0", "lm-eval": "0.4.13"}
    phases = {
        "train": 156.0,
        "merge": 0.9,
        "load": 1.6,
        "reset": 0.05,
        "canary": 0.7,
        "score": 81.4,
        "bookkeeping": 3.1,
        "test": 33.5,
        "register": 2.4,
        "verify": 21.0,
    }
    return Summary(
        run="5f3ac19be04d77a1",
        config="quickstart",
        suite="cldr",
        seed=0,
        swarm="star",
        result="PSO star",
        history=history(),
        rows=tuple(table_row(label) for label in SCORES),
        provenance=Provenance(models[0], tuple(models[1:]), versions, "Intel Xeon @ 2.60GHz", 2, "vllm", "float32"),
        recipe=recipe(),
        comparisons=(
            Comparison("PSO star", "expert skill", 0.138, 0.101, 0.174, 0.0001),
            Comparison("PSO star", "base", 0.284, 0.25, 0.317, 0.0001),
            Comparison("PSO star", "task arithmetic (scale .5)", 0.049, 0.021, 0.078, 0.0012),
            Comparison("PSO star", "TIES (density .2, scale 1)", 0.037, -0.004, 0.079, 0.081),
            Comparison("PSO star", "PSO paper", 0.096, 0.06, 0.131, 0.0001),
        ),
        splits=(
            Split("optimisation", 704, "fitness of particles, tuning of baselines"),
            Split("validation", 410, "ranking of the top candidates, verification"),
            Split("test", sum(ITEMS), "this report, once; promotion"),
        ),
        candidates=(
            Candidate(4, 8, 0.601, 0.592, True),
            Candidate(5, 6, 0.598, 0.588, False),
            Candidate(3, 5, 0.597, None, False),
        ),
        seconds=phases,
        wall_seconds=311.2,
        judgements=43,
        engine_bytes=1_503_238_553,
        main_bytes=731_000_000,
        registration=Registration(
            "psomerge-quickstart", "3", "champion", True, "beats champion v2 on the test split (+1.9, p = 0.004)"
        ),
        finished="2026-02-03T10:15:00+00:00",
    )
