"""What can be wrong with a chat template."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from made.malformed import OUTSIDE, TEMPLATE, Kind
from made.malformed_configs import changed, sparse, written
from made.malformed_tokenizers import SETTINGS

ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages['__class__'] }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('SECRET').read() }}",
    "{% set x = '__cla' ~ 'ss__' %}{{ messages[x] }}{{ ''[x] }}{{ ''|attr(x) }}{{ ''|attr(x)|attr('mro') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
)
FILES = (
    "{% include 'SECRET' %}",
    "{% import 'SECRET' as x %}{{ x }}",
    "{% extends 'SECRET' %}",
    "{% from '../outside/secret.jinja' import x %}",
    "{% for f in ['SECRET'] %}{% include f %}{% endfor %}",
)
ENDLESS = (
    "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% "
    "endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% for m in [[[]]] recursive %}{{ loop([[], []]) }}{% endfor %}",
    "{{ lipsum(n=100000000) }}",
)
GROWING = (
    "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(x=['a']) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "{{ 'a' * 10**10 }}",
    "{{ 10**(10**10) }}",
    "{{ 'a'|center(10000000000) }}",
    "{{ '%10000000000d'|format(1) }}",
    "{{ messages[0]['content']|wordwrap(1)|replace('a', 'aaaaaaaaaaaaaaaa' * 100000000) }}",
)
BROKEN = (
    "{% for m in messages %}",
    "{{ messages[ }}",
    "{% endif %}",
    "{{ nothing.of.this }}",
    "{{ messages|unknown }}",
    "{% raw %}",
    "{{ 1 / 0 }}",
    "{% evil %}",
)
SANDBOXED = (
    "Jinja's sandbox answers some of these with nothing: no attribute is reached, and what the template would read "
    "or run is not"
)
UNUSED = "a chat template is rendered where a suite asks for it, and there it is refused"


def template(source: Callable[[random.Random], str]) -> Callable[[Path, random.Random], object]:
    """Damage to the chat template, in its file or in tokenizer_config.json, alone or as one of several."""

    def damage(folder: Path, rng: random.Random) -> None:
        outside = folder.parent / OUTSIDE
        text = source(rng).replace("SECRET", str(outside / "secret.jinja")).replace("MARK", str(outside / "executed"))
        if rng.random() < 0.5:
            (folder / "chat_template.jinja").write_text(text)
            return
        (folder / "chat_template.jinja").unlink()
        several = [{"name": "default", "template": text}, {"name": "tool_use", "template": TEMPLATE}]
        changed(SETTINGS, lambda c, r: c.update(chat_template=text if r.random() < 0.7 else several))(folder, rng)

    return damage


def more_templates(folder: Path, rng: random.Random) -> None:
    """transformers reads every template of this folder as well."""
    more = folder / "additional_chat_templates"
    more.mkdir()
    make = rng.choice(
        (
            os.mkfifo,
            lambda path: path.symlink_to(folder.parent / OUTSIDE / "secret.jinja"),
            lambda path: sparse(path, 900 * 2**20),
        )
    )
    make(more / "tool_use.jinja")


KINDS: dict[str, Kind] = {
    "more templates": Kind(more_templates, "a checkpoint holds regular files only|is a symbolic link|expected at most"),
    "escape from the sandbox": Kind(template(lambda r: r.choice(ESCAPES)), "chat template", SANDBOXED),
    "template that opens files": Kind(template(lambda r: r.choice(FILES)), "chat template"),
    "template that never ends": Kind(template(lambda r: r.choice(ENDLESS)), "chat template"),
    "template that grows": Kind(template(lambda r: r.choice(GROWING)), "chat template"),
    "template that is broken": Kind(template(lambda r: r.choice(BROKEN)), "chat template", UNUSED),
    "template nested deeply": Kind(
        template(
            lambda r: r.choice(
                ("{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}", "{% if 1 %}" * 999 + "{% endif %}" * 999)
            )
        ),
        "chat template",
    ),
    "template of 100 MB": Kind(lambda f, r: sparse(f / "chat_template.jinja", 100 * 2**20), "expected at most"),
    "template not UTF-8": Kind(
        written("chat_template.jinja", lambda b, r: b + r.choice((b"\xff", b"\xc3", b"\xed\xa0\x80"))), "UTF-8"
    ),
    "template of another type": Kind(
        changed(SETTINGS, lambda c, r: c.update(chat_template=r.choice((7, [7], {"a": 1}, [{"name": 1}], [[]])))),
        "chat.template",
    ),
}
