"""What scorers must not ask twice, kept in the run's journal."""

from collections.abc import Iterator, MutableMapping

from psomerge.run.journal import Journal

KIND = "remembered"


class JournalMemory(MutableMapping[str, str]):
    """Texts by key, each a line of the journal as soon as it is set: an LLM judge's replies outlive a run that is
    killed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._texts: dict[str, str] = {
            entry["key"]: entry["text"] for entry in journal.entries if entry["kind"] == KIND
        }

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def __setitem__(self, key: str, value: str) -> None:
        if self._texts.get(key) != value:
            self._journal.append({"kind": KIND, "key": key, "text": value})
            self._texts[key] = value

    def __delitem__(self, key: str) -> None:
        raise TypeError("a journal forgets nothing")

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
