"""Where things lie in the repository."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
SHIPPED = ROOT / "configs" / "suites"
TOY = TESTS / "benchmarks" / "toy"
"""Tasks of lm-evaluation-harness with data of their own."""
