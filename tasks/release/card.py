"""The model card that is published with a checkpoint: Markdown, by the template beside this file."""

import re
from collections.abc import Sequence
from importlib.resources import files

from psomerge.evals.significance.intervals import Interval
from psomerge.recipe import Recipe
from psomerge.tasks.report.summary import Row


def front_matter(*, paired: bool = False) -> str:
    """Returns what the hub reads at the top of a model card's file: YAML between two lines."""
    kind = "text2text-generation" if paired else "text-generation"
    return f"---\nlibrary_name: transformers\npipeline_tag: {kind}\ntags: [merge, psomerge]\n---\n\n"


def model_card(
    recipe: Recipe, rows: Sequence[Row], *, name: str, facts: Sequence[tuple[str, str]] = (), paired: bool = False
) -> str:
    """Returns the model card in Markdown.

    Args:
        rows: Test split results, the merged model among them.
        name: The registered model's.
        facts: What else the result depends on, as (label, text): suite, run key, versions.
        paired: Whether it is a sequence-to-sequence model.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(
        files("psomerge.tasks.release").joinpath("card.md.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        recipe=recipe,
        rows=rows,
        name=name,
        facts=facts,
        paired=paired,
        benchmarks=list(dict.fromkeys(benchmark for row in rows for benchmark in row.benchmarks)),
        sources=[("base", recipe.base), *((f"expert {number}", one) for number, one in enumerate(recipe.experts, 1))],
        score=_score,
        code=_code,
    )


def _score(estimate: Interval | None) -> str:
    return "–" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] n={estimate.n}"


def _code(text: str) -> str:
    """A code span that shows any text, as one cell of a table: folders may have `|`, backticks and line breaks in their
    names."""
    shown = " ".join(text.splitlines()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{ticks} {shown} {ticks}" if "`" in shown else f"{ticks}{shown}{ticks}"
