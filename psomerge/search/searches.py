"""The searches that a config can name; a new one is one line here."""

from collections.abc import Callable
from functools import partial

from psomerge.search.pso import Pso, Settings
from psomerge.search.search import Search
from psomerge.search.starts import paper, star

SEARCHES: dict[str, Callable[[Settings], Search]] = {
    "star": lambda settings: Pso("star", partial(star, scale=settings.scale, pull=settings.pull), settings),
    "paper": lambda settings: Pso("paper", paper, settings),
}
