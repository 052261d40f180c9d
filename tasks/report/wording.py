"""How numbers and verdicts are said, alike in the report, the terminal table and the figures: scores in points of
100."""

from psomerge.evals.significance.intervals import Interval
from psomerge.tasks.report.summary import Comparison, Registration, Summary


def points(value: float, digits: int = 1) -> str:
    """Returns a score in [0, 1] as points of 100: 0.58 -> `58.0`."""
    return f"{100 * value:.{digits}f}"


def difference(value: float) -> str:
    """Returns a difference of scores in points, with its sign: 0.138 -> `+13.8`."""
    return f"{100 * value:+.1f}".replace("-", "−")


def interval(estimate: Interval) -> str:
    """Returns the 95 % interval in whole points: `55–61`."""
    return f"{points(estimate.low, 0)}–{points(estimate.high, 0)}"


def half_width(estimate: Interval) -> float:
    """Returns half the length of the 95 % interval, in points."""
    return 50 * (estimate.high - estimate.low)


def probability(p: float) -> str:
    """Returns a p value: `< 0.001` or `0.012`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Returns seconds as people say them: `340 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`, `3 days 04 h`."""
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days {whole % 86400 // 3600:02d} h"


def size(count: int) -> str:
    """Returns bytes in binary units: `1.4 GiB`; 0 is `not measured`."""
    if count <= 0:
        return "not measured"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def count(number: int) -> str:
    """Returns a whole number with thousands set apart: `1,105`."""
    return f"{number:,}"


def directions(summary: Summary) -> list[str]:
    """Returns the names of the coefficients' columns: the experts, then, if there are as many again, their DARE
    copies."""
    names = [model.name for model in summary.provenance.experts]
    coefficients = summary.recipe.get("coefficients") or [[]]
    return names + [f"{name} (DARE)" for name in names] if len(coefficients[0]) > len(names) else names


def best_cells(summary: Summary) -> dict[str, float]:
    """Returns the highest mean of each benchmark among all rows, and of the overall mean under the key `""`."""
    best: dict[str, float] = {}
    for row in summary.rows:
        for name, estimate in [*row.benchmarks.items(), *([("", row.mean)] if row.mean else [])]:
            best[name] = max(best.get(name, 0.0), estimate.mean)
    return best


def verdict(summary: Summary) -> str:
    """Returns the run's outcome in one sentence: score with interval, best expert, difference, what became of the
    model."""
    row = summary.row(summary.result)
    if row is None or row.mean is None:
        scored = "The merged model has no score on test items" + (f": {row.failure}" if row and row.failure else "")
        return f"{scored}; {outcome(summary.registration)}."
    parts = [
        f"The merged model scores {points(row.mean.mean)} (95 % {interval(row.mean)}) on {count(row.mean.n)} test items"
    ]
    expert = summary.best_expert()
    if expert is None or expert.mean is None:
        parts.append("no expert was scored beside it")
    else:
        parts.append(f"best expert ({expert.label.removeprefix('expert ')}) {points(expert.mean.mean)}")
        paired = next((c for c in summary.comparisons if (c.a, c.b) == (row.label, expert.label)), None)
        parts.append(
            compared(paired) if paired else f"difference {difference(row.mean.mean - expert.mean.mean)}, not tested"
        )
    return "; ".join([*parts, outcome(summary.registration)]) + "."


def compared(paired: Comparison) -> str:
    """Returns a paired comparison: `difference +13.8 (p < 0.001)`."""
    return f"difference {difference(paired.difference)} (p {'' if paired.p < 0.001 else '= '}{probability(paired.p)})"


def saved(summary: Summary) -> str | None:
    """Returns what early stopping saved, in one sentence; None where nothing was stopped."""
    judged = [particle for step in summary.history for particle in step.particles if particle.judged]
    stopped = sum(particle.bound is not None for particle in judged)
    tokens, whole = (sum(getattr(particle, name) for particle in judged) for name in ("tokens", "tokens_of"))
    if not stopped:
        return None
    given_up = [particle.risk for particle in judged if particle.risk]
    test = (
        f" or, {len(given_up)} of them, a sequential test gave them up (wrong at most {100 * given_up[0]:g} % of the "
        "time)"
        if given_up
        else ""
    )
    share = f", which saved {100 * (1 - tokens / whole):.0f} % of the search's tokens" if whole else ""
    return (
        f"{stopped} of {len(judged)} judgements of the search were stopped as soon as they could not exceed their "
        f"particle's own best{test}{share}."
    )


def outcome(registration: Registration | None) -> str:
    """Returns what became of the model in the registry, with the reason where it was not promoted."""
    if registration is None:
        return "not registered"
    if registration.promoted:
        return f"promoted to {registration.alias or 'champion'} v{registration.version}"
    place = (
        f"kept as {registration.alias} v{registration.version}"
        if registration.alias
        else f"registered as v{registration.version} without an alias"
    )
    return f"{place}, not promoted: {registration.reason}"


def plain(text: str, limit: int = 80) -> str:
    """Returns a name for a figure or a terminal: control characters replaced, no longer than `limit` characters."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
