"""The process that renders one chat template (`templates`): lines of JSON in, one line of JSON out for each.

The rendering is transformers' own, in Jinja's sandbox; no torch is imported, so it starts in less than a second.
"""

import json
import math
import os
import resource
import sys
from datetime import datetime
from functools import cache
from typing import Any

MEMORY = 2**30
"""Bytes of address space."""


def main() -> None:
    """Answers until its input ends. A template that needs too much memory ends in a fault or ends the process; one that
    computes too long ends it (SIGXCPU)."""
    from jinja2 import TemplateError
    from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
    from transformers.utils.chat_template_utils import render_jinja_template

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    opening: dict[str, Any] = {}
    for line in sys.stdin:
        question = json.loads(line)
        if not opening:
            opening, answer = question, {}
        else:
            _allow(opening["seconds"])
            going_on = not question["add_generation_prompt"]
            today, arguments = datetime.fromisoformat(question["date"]), question["arguments"]
            try:
                if unknown := sorted(
                    set(arguments) - (known := _asked_for(opening["template"]) if arguments else set())
                ):
                    print(json.dumps({"unknown": [unknown[0], sorted(known)]}), file=answers, flush=True)
                    continue
                texts, _ = render_jinja_template(
                    conversations=[question["history"]],
                    chat_template=opening["template"],
                    add_generation_prompt=not going_on,
                    continue_final_message=going_on,
                    # Told as a variable, it comes before transformers' own, which asks the clock.
                    strftime_now=today.strftime,
                    **opening["tokens"] | arguments,
                )
                answer = {"text": texts[0]}
            except (SecurityError, TemplateSyntaxError, UndefinedError) as error:
                answer = _fault(error)
            except TemplateError:
                answer = {"text": None}
            except Exception as error:  # a template can raise whatever an expression can
                answer = _fault(error)
        print(json.dumps(answer), file=answers, flush=True)


@cache
def _asked_for(template: str) -> set[str]:
    """Names that a template does not give a value itself."""
    from jinja2 import meta
    from transformers.utils.chat_template_utils import _compile_jinja_template

    environment = _compile_jinja_template(template).environment
    return meta.find_undeclared_variables(environment.parse(template))


def _allow(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime) + seconds, hard))


def _fault(error: Exception) -> dict[str, str]:
    return {"fault": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")}


if __name__ == "__main__":
    main()
