"""Which architectures vLLM runs, known without importing it: an import costs many seconds, and a run asks before it
starts an engine."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_TABLES = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")
_MULTIMODAL = "_MULTIMODAL_MODELS"
_BACKED_MULTIMODAL = "TransformersMultiModal"


@cache
def architectures() -> frozenset[str]:
    """Returns the class names, as in a config.json's `architectures`, that the installed vLLM lists as models which
    read and write text alone; none without a vLLM. Those that read pictures or sounds, too, need processors and
    libraries that the lock leaves out, and other checks of what was swapped.

    The tables are read from the source of its registry. A class that is not listed may still run there on transformers'
    own code; no list says which.

    Raises:
        RuntimeError: the registry of this version looks otherwise.
    """
    found = find_spec("vllm")
    if found is None or found.origin is None:
        return frozenset()
    registry = Path(found.origin).parent / "model_executor" / "models" / "registry.py"
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    for node in ast.parse(registry.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(name := node.targets[0], ast.Name) and name.id in _TABLES:
            tables[name.id] = ast.literal_eval(node.value)
    if missing := sorted(set(_TABLES) - tables.keys()):
        raise RuntimeError(f"{registry}: has no table {missing[0]}; this version of vLLM is not the one in the lock")
    backed = {
        name
        for name, (_, by) in tables["_TRANSFORMERS_SUPPORTED_MODELS"].items()
        if str(by).startswith(_BACKED_MULTIMODAL)
    }
    plain = frozenset(name for key, table in tables.items() if key != _MULTIMODAL for name in table)
    return plain - backed - tables[_MULTIMODAL].keys()
