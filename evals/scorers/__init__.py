"""Scorers: what turns items and a model's outputs into numbers in [0, 1], in place of a task's own metric.

A suite names one by `scorer: package.module:name`, a class or a function of (item, output), with `scorer_options`.
Shipped are `psomerge.evals.scorers.language:InLanguage`,
`psomerge.evals.scorers.llm_judge:LLMJudge` and `psomerge.evals.scorers.comet:Comet`.
"""

from psomerge.evals.scorers.loading import load_scorer, source_digest
from psomerge.evals.scorers.scorer import Item, Scorer, ScorerError

__all__ = ["Item", "Scorer", "ScorerError", "load_scorer", "source_digest"]
