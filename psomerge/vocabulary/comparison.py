"""How two vocabularies lie to each other: what may be merged token by token, and what contradicts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psomerge.vocabulary.tokens import Vocabulary, shown


@dataclass(frozen=True)
class VocabularyComparison:
    """How an expert's vocabulary lies to the base's; every token of either stands in exactly one of the first four."""

    common: int
    """Tokens with the same id in both."""
    moved: Mapping[str, tuple[int, int]]
    """Ids in base and expert of tokens that both have under different ids."""
    only_base: Mapping[str, int]
    only_expert: Mapping[str, int]
    clashes: tuple[str, ...]
    """What contradicts, in words, e.g. `token 'a' has id 5, in the base 3`: pieces whose rows mean something else.
    Added tokens may lie anywhere."""

    def smaller(self) -> int:
        """Returns the number of tokens in the smaller of the two vocabularies."""
        return self.common + len(self.moved) + min(len(self.only_base), len(self.only_expert))


def _doubled(ids: Mapping[str, int], own: Mapping[str, int]) -> Iterator[str]:
    """Yields the rows that two tokens share, where one of them is its vocabulary's own: whose row it is cannot be
    told."""
    if not own or len(set(ids.values())) == len(ids):
        return
    first: dict[int, str] = {}
    for token, number in ids.items():
        if first.setdefault(number, token) != token and (token in own or first[number] in own):
            yield f"id {number} is both {shown(first[number])} and {shown(token)}"


def compare(base: Vocabulary, expert: Vocabulary) -> VocabularyComparison:
    """Returns how two vocabularies lie to each other."""
    ours, theirs = base.ids, expert.ids
    only_base = {token: number for token, number in ours.items() if token not in theirs}
    only_expert = {token: number for token, number in theirs.items() if token not in ours}
    moved = {
        token: (number, theirs[token]) for token, number in ours.items() if token in theirs and theirs[token] != number
    }
    clashes = [
        f"token {shown(token)} has id {b}, in the base {a}"
        for token, (a, b) in moved.items()
        if token in base.pieces and token in expert.pieces
    ]
    if only_base and only_expert:
        rows = {number: token for token, number in base.pieces.items()}
        clashes += [
            f"id {number} is token {shown(token)}, in the base {shown(rows[number])}"
            for token, number in only_expert.items()
            if token in expert.pieces and rows.get(number) in only_base
        ]
    clashes += _doubled(theirs, only_expert)
    return VocabularyComparison(len(ours) - len(only_base) - len(moved), moved, only_base, only_expert, tuple(clashes))
