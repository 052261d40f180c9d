"""The process that tries one regular expression on texts that are hard for it (`pattern_time`): the pattern in, a line
about each text out before it is tried. It ends with the first text that takes too long or that the library gives up.
"""

import functools
import os
import resource
import signal
import sys

SECONDS = 0.5
"""Of computing for one text of some thousand characters; in use are milliseconds."""
ALTOGETHER = 10
"""Seconds of computing for all texts."""
MEMORY = 2 * 2**30
"""Bytes of address space."""
BEGINNING = 20
"""Characters of a text that are told."""


def main() -> None:
    """Tries the pattern that standard input holds. A pattern that is none is not looked at: the library that opens the
    tokenizer says so."""
    from tokenizers import Regex, pre_tokenizers

    from psomerge.screening.hard_texts import hard_texts

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where the library gives up, it says so at length
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (ALTOGETHER, ALTOGETHER))

    @functools.cache
    def splitter(source: str) -> pre_tokenizers.PreTokenizer | None:
        try:
            return pre_tokenizers.Split(Regex(source), "removed")
        except Exception:  # the library raises nothing more exact
            return None

    def accepts(source: str, letter: str) -> bool:
        one = splitter(source)
        return source == letter or (one is not None and not one.pre_tokenize_str(letter))

    pattern = sys.stdin.read()
    whole = splitter(pattern)
    if whole is None:
        return
    for text in hard_texts(pattern, accepts):
        os.write(1, f"{len(text)} {text[:BEGINNING]!r}\n".encode())
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process (SIGPROF), whatever it is in
        whole.pre_tokenize_str(text)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
