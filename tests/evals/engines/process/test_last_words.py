"""An engine's last words are what names the cause, wherever it stands in the log."""

import subprocess
import sys

import pytest

from psomerge.evals.engines.process.last_words import MOST, last_words

PYDANTIC = """\
WARNING 11-28 15:00:00 [cpu.py:1] slow
Traceback (most recent call last):
  File "serve.py", line 10, in main
    engine = open()
             ^^^^^^
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Can't load image processor for '/x'. [type=value_error, input_value=ArgsKwargs((), {})]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
ROOT_CAUSE = """\
(EngineCore pid=42) ERROR 11-28 15:00:00 [core.py:99] EngineCore failed to start.
(EngineCore pid=42) ERROR 11-28 15:00:00 [core.py:99] Traceback (most recent call last):
(EngineCore pid=42) ERROR 11-28 15:00:00 [core.py:99]   File "core.py", line 1, in run
(EngineCore pid=42) ERROR 11-28 15:00:00 [core.py:99]     load()
(EngineCore pid=42) ERROR 11-28 15:00:00 [core.py:99] KeyError: 'layers.0.weight'
Traceback (most recent call last):
  File "llm.py", line 1, in <module>
    LLM()
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
WORDS = {
    "pydantic's advice behind its error": (PYDANTIC, "Can't load image processor for '/x'"),
    "an error that only points to another": (ROOT_CAUSE, "KeyError: 'layers.0.weight'"),
    "noise after the traceback": (
        "Traceback (most recent call last):\n  File 'a', line 1\nValueError: no such layer\n\n"
        "resource_tracker: There appear to be 2 leaked objects\n[rank0]: destroy_process_group() was not called\n",
        "ValueError: no such layer",
    ),
    "an exception without a text": (
        "Traceback (most recent call last):\n  File 'a'\nMemoryError\nbye\n",
        "MemoryError",
    ),
    "a crash of native code": (
        "loading\nFatal Python error: Segmentation fault\n\nCurrent thread 0x7 (most recent call first):\n  File 'a'\n",
        "Fatal Python error: Segmentation fault",
    ),
    "C++": (
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
        "bad_alloc",
    ),
    "no error at all": ("one\ntwo\n\n", "two"),
    "a traceback that was cut off": ("loading\nTraceback (most recent call last):\n  File 'a', line 1\n", "File 'a'"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("case", WORDS)
def test_the_last_words_name_the_cause(case: str) -> None:
    said, cause = WORDS[case]
    found = last_words(said)
    assert cause in found
    assert "further information" not in found
    assert len(found.splitlines()) <= 1


@pytest.mark.heavy
def test_of_a_real_chain_of_exceptions_the_one_that_ended_the_process_is_told_and_a_long_one_is_cut() -> None:
    code = (
        "import pydantic\n"
        "class A(pydantic.BaseModel):\n  x: int\n"
        "try:\n  A(x='many')\n"
        "except ValueError as error:\n"
        "  raise RuntimeError('cannot open: ' + str(error) + '\\n  ' + 'y' * 999) from error\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = last_words(done.stderr)
    assert found.startswith("RuntimeError: cannot open: 1 validation error for A")
    assert len(found) == MOST
