"""Each run resolves its addresses anew; until it is finished it goes on with what they were."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from psomerge.errors import ArtefactError, ServiceError, StateError
from psomerge.tasks.sources.address import SCHEMES
from psomerge.tasks.sources.origin import Access, Fetched, Scheme
from psomerge.tasks.sources.pinned import Pinned, pin_addresses, pinned
from psomerge.tasks.tracking.store import Store

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


GIVEN = {"base": "moving://x", "one": "moving://y@7"}


def begun(access: Access, **addresses: str) -> Pinned:
    return pin_addresses(addresses or GIVEN, access, CONFIG, PROGRAM)


def found(access: Access, addresses: Mapping[str, str] = GIVEN, **changes: Any) -> Pinned | None:
    return pinned(addresses, access, CONFIG | changes, PROGRAM)


def test_what_addresses_mean_when_a_run_begins_is_found_again(access: Access) -> None:
    assert found(access) is None
    first = begun(access)
    assert first.addresses == {"base": "moving://x@1", "one": "moving://y@7"}
    Moving.now = 2
    assert found(access) == first
    assert first.fetch("base", access).source == "moving://x@1"


def test_models_keep_the_config_s_order(access: Access) -> None:
    addresses = {"base": "moving://x", "math": "moving://m", "adapter": "moving://a"}
    first = begun(access, **addresses)
    again = found(access, addresses)
    assert again is not None
    assert list(again.addresses) == list(first.addresses) == ["base", "math", "adapter"]
    assert list(again.addresses.values()) == ["moving://x@1", "moving://m@1", "moving://a@1"]


def test_another_config_and_another_state_of_the_program_are_bound_by_nothing(access: Access) -> None:
    begun(access)
    assert found(access, seed=2) is None
    assert pinned(GIVEN, access, CONFIG, {"code": "b"}) is None


def test_the_same_text_in_other_surroundings_is_bound_by_nothing(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    begun(access, base="model")
    monkeypatch.chdir(tmp_path / "b")
    assert found(access, {"base": "model"}) is None
    begun(access)
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@elsewhere.example")
    assert found(access) is None
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "pinned").iterdir())
    registry = replace(access, store=lambda: Store("http://one.example"))
    address = {"base": "models:/m/1"}
    pin_addresses(address, registry, CONFIG, PROGRAM)
    assert found(registry, address) is not None
    assert found(replace(access, store=lambda: Store("http://two.example")), address) is None
    own = replace(access, store=lambda: Store("sqlite:////home/mlflow.db", tmp_path))
    pin_addresses(address, own, CONFIG, PROGRAM)
    assert found(replace(access, store=lambda: Store("http://127.0.0.1:5000", tmp_path)), address) is not None


def test_a_finished_run_binds_nobody(access: Access) -> None:
    first = begun(access)
    second = begun(access)
    first.drop()  # not its own any more
    assert found(access) == second
    second.drop()
    assert found(access) is None
    Moving.now = 2
    assert begun(access).addresses["base"] == "moving://x@2"


def test_what_has_moved_since_is_said_with_both_addresses_and_how_to_begin_anew(access: Access) -> None:
    first = begun(access)
    assert first.moved(access) == []
    Moving.now = 2
    assert first.moved(access) == [
        f"moving://x is moving://x@2; the run that began on {first.since} goes on with moving://x@1 until it is "
        f"finished; to begin anew with what the addresses mean now, remove {first.path}"
    ]
    Moving.gone = True
    (line,) = first.moved(access)
    assert line.startswith("moving://x is not to be known now (moving://x: nobody answers); the run that began on ")


def test_files_that_are_gone_are_told_with_the_way_to_begin_anew(access: Access) -> None:
    first = begun(access)
    Moving.gone = True
    with pytest.raises(ArtefactError, match=f"its files are gone; to begin anew .*, remove {first.path}"):
        first.fetch("base", access)
    with pytest.raises(ArtefactError, match=r"its files are gone$"):
        first.fetch("one", access)  # whose address cannot move


def test_a_local_folder_is_pinned_by_the_path_that_means_it_from_anywhere(
    access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    first = begun(access, base="model")
    assert first.addresses == {"base": str(tmp_path / "model")}
    assert first.moved(access) == []
    (tmp_path / "model").rmdir()
    with pytest.raises(ArtefactError, match=r"found nothing there; check the path$"):
        first.fetch("base", access)  # no other day's meaning would help


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.replace(b"x@1", b"x@3")])
def test_a_damaged_record_is_not_taken_for_none(access: Access, damage: object) -> None:
    path = begun(access).path
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(StateError, match=f"{path}: .*; remove it: the run then begins with what its addresses mean"):
        found(access)
