"""Each run resolves its addresses anew; until it is finished it goes on with what they were."""

from pathlib import Path

import pytest

from psomerge.errors import ArtefactError, ServiceError, StateError
from psomerge.tasks.sources.address import SCHEMES
from psomerge.tasks.sources.origin import Access, Fetched, Scheme
from psomerge.tasks.sources.pinned import Pinned, pin_addresses, pinned

CONFIG, PROGRAM = {"name": "one"}, {"code": "a"}


class Moving:
    """A made-up origin: `moving://NAME@NUMBER`, without a number the one that `now` says."""

    now = 1
    gone = False

    def __init__(self, address: str) -> None:
        self.address = address

    def resolve(self, access: Access) -> "Moving":
        if "@" in self.address:
            return self
        if Moving.gone:
            raise ServiceError(f"{self.address}: nobody answers")
        return Moving(f"{self.address}@{Moving.now}")

    def fetch(self, access: Access) -> Fetched:
        if Moving.gone:
            raise ArtefactError(f"{self.address}: its files are gone")
        return Fetched(access.home / self.address[-1], self.address)


@pytest.fixture
def access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setitem(SCHEMES, "moving://", Scheme(("moving://NAME",), Moving))  # type: ignore[arg-type]
    monkeypatch.setattr(Moving, "now", 1)
    monkeypatch.setattr(Moving, "gone", False)
    return Access(tmp_path, lambda what, share: None)


def begun(access: Access, **addresses: str) -> Pinned:
    return pin_addresses(addresses or {"base": "moving://x", "one": "moving://y@7"}, access, CONFIG, PROGRAM)


def test_what_addresses_mean_when_a_run_begins_is_found_again(access: Access) -> None:
    assert pinned(access.home, CONFIG, PROGRAM) is None
    first = begun(access)
    assert first.addresses == {"base": "moving://x@1", "one": "moving://y@7"}
    Moving.now = 2
    assert pinned(access.home, CONFIG, PROGRAM) == first
    assert first.fetch("base", access).source == "moving://x@1"


def test_another_config_and_another_state_of_the_program_are_bound_by_nothing(access: Access) -> None:
    begun(access)
    assert pinned(access.home, CONFIG | {"seed": 2}, PROGRAM) is None
    assert pinned(access.home, CONFIG, {"code": "b"}) is None


def test_a_finished_run_binds_nobody(access: Access) -> None:
    begun(access).drop()
    assert pinned(access.home, CONFIG, PROGRAM) is None
    Moving.now = 2
    assert begun(access).addresses["base"] == "moving://x@2"


def test_what_has_moved_since_is_said_with_both_addresses_and_how_to_begin_anew(access: Access) -> None:
    first, given = begun(access), {"base": "moving://x", "one": "moving://y@7"}
    assert first.moved(given, access) == []
    Moving.now = 2
    assert first.moved(given, access) == [
        f"moving://x is moving://x@2; the run that began on {first.since} goes on with moving://x@1 until it is "
        f"finished; to begin anew, remove {first.path}"
    ]
    Moving.gone = True
    (line,) = first.moved(given, access)
    assert line.startswith("moving://x is not to be known now (moving://x: nobody answers); the run that began on ")


def test_files_that_are_gone_are_told_with_the_way_to_begin_anew(access: Access) -> None:
    first = begun(access)
    Moving.gone = True
    with pytest.raises(ArtefactError, match=f"its files are gone; to begin anew .*, remove {first.path}"):
        first.fetch("base", access)


def test_a_local_folder_is_pinned_by_the_path_that_means_it_from_anywhere(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    first = begun(access, base="model")
    assert first.addresses == {"base": str(tmp_path / "model")}
    assert first.moved({"base": "model"}, access) == []


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.replace(b"x@1", b"x@3")])
def test_a_damaged_record_is_not_taken_for_none(access: Access, damage: object) -> None:
    path = begun(access).path
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(StateError, match=f"{path}: .*; remove it: the run then begins with what its addresses mean"):
        pinned(access.home, CONFIG, PROGRAM)
