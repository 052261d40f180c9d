"""The model card that is published with a checkpoint."""

from collections.abc import Sequence

from psomerge.recipe import Recipe
from psomerge.tasks.report.summary import Estimate, Row

CAUSAL = """\
```python
import mlflow
generate = mlflow.transformers.load_model("models:/NAME@champion")
print(generate("Hello", max_new_tokens=20))
```

```sh
mlflow artifacts download --artifact-uri models:/NAME@champion --dst-path NAME
vllm serve NAME/model
```
"""
PAIRED = """\
```python
import mlflow
parts = mlflow.transformers.load_model("models:/NAME@champion", return_type="components")
model, tokenizer = parts["model"], parts["tokenizer"]
(answer,) = model.generate(**tokenizer("Hello", return_tensors="pt"), max_new_tokens=20)
print(tokenizer.decode(answer, skip_special_tokens=True))
```
"""


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
    sources = [
        ("base", recipe.base),
        *((f"expert {number}", expert) for number, expert in enumerate(recipe.experts, 1)),
    ]
    parts = [f"| {role} | {one.name} | `{one.source}` | `{one.revision}` |" for role, one in sources]
    coefficients = "\n".join(f"- {', '.join(repr(value) for value in row)}" for row in recipe.coefficients)
    benchmarks = list(dict.fromkeys(benchmark for row in rows for benchmark in row.benchmarks))
    cells = [
        f"| {row.label} | {_cell(row.mean)} | "
        + " | ".join(_cell(row.benchmarks.get(one)) for one in benchmarks)
        + " |"
        for row in rows
    ]
    head = f"| model | mean | {' | '.join(benchmarks)} |\n|---|---{'|---' * len(benchmarks)}|"
    return f"""# {name}

Merged from one base and {len(recipe.experts)} experts with psomerge {recipe.to_dict()["psomerge"]}, method `{recipe.method}`.

## Results on the test split

Mean, 95 % interval, number of items. No test item was seen by the search.

{head}
{chr(10).join(cells)}

## Made of

| role | name | source | revision |
|---|---|---|---|
{chr(10).join(parts)}

Coefficients, one line a group (experts' task vectors in the order above, then, if there are as many again, their DARE copies):

{coefficients}

## Provenance

{chr(10).join(f"- {label}: {text}" for label, text in (("recipe", recipe.digest()), *facts))}

`recipe.json` rebuilds these weights from the sources above (`psomerge materialize`); `MANIFEST.json` has the SHA-256 of every file.

## How to load

{(PAIRED if paired else CAUSAL).replace("NAME", name)}"""


def _cell(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] n={estimate.n}"
