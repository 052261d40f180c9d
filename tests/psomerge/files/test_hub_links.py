"""A hub cache's snapshot is a checkpoint as it lies there: its links lead to files of the cache's own folder, and no
other link is followed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from made.hub_cache import snapshot
from made.models import tiny_llama, toy_checkpoint
from psomerge.checkpoint.pins import file_digests
from psomerge.checkpoint.reader import open_checkpoint
from psomerge.errors import ArtefactError
from psomerge.files.hub_links import blob_of
from psomerge.files.untrusted import listing, read_bytes
from psomerge.tasks.sources.local import Folder

SAFE = "model.safetensors"


def cached(place: Path) -> Path:
    """A snapshot of a small checkpoint in a cache of its own."""
    return snapshot(toy_checkpoint(place / "toy", {"a.weight": torch.arange(4.0)}), place / "hub")


def test_a_snapshot_is_what_a_copy_of_it_would_be(tmp_path: Path) -> None:
    plain = tiny_llama(tmp_path / "plain", layers=1)
    copy = snapshot(tiny_llama(tmp_path / "model", layers=1), tmp_path / "hub")
    assert all(path.is_symlink() for path in copy.iterdir())
    assert listing(copy) == listing(plain)
    assert file_digests(copy) == file_digests(plain)
    ours, theirs = open_checkpoint(copy), open_checkpoint(plain)
    assert all(torch.equal(ours.tensor(name), theirs.tensor(name)) for name in theirs.tensors)
    ours.check_unchanged()


def linked_cache(place: Path) -> Path:
    """The cache itself lies behind a link, as one that was moved to another disk."""
    found = cached(place / "disk")
    (place / "home").symlink_to(place / "disk")
    return place / "home" / found.relative_to(place / "disk")


def linked_snapshot(place: Path) -> Path:
    """A name of the user's own for a snapshot."""
    (place / "mine").symlink_to(cached(place))
    return place / "mine"


def absolute(place: Path) -> Path:
    """Links as the client makes them where no relative ones can be."""
    found = cached(place)
    for link in list(found.iterdir()):
        target = link.resolve()
        link.unlink()
        link.symlink_to(target)
    return found


def sub_folder(place: Path) -> Path:
    """A checkpoint in a folder of the repository."""
    toy_checkpoint(place / "toy" / "step" / "100", {"a.weight": torch.arange(4.0)})
    return snapshot(place / "toy", place / "hub") / "step" / "100"


def without_links(place: Path) -> Path:
    """A snapshot on a disk that knows no links: some files are real."""
    found = cached(place)
    content = (found / "config.json").read_bytes()
    (found / "config.json").unlink()
    (found / "config.json").write_bytes(content)
    return found


@pytest.mark.parametrize("make", [cached, linked_cache, linked_snapshot, absolute, sub_folder, without_links])
def test_a_snapshot_is_taken_however_the_cache_lies(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    opened = open_checkpoint(make(tmp_path))
    assert opened.tensor("a.weight").tolist() == [0, 1, 2, 3]
    opened.check_unchanged()


def to(target: str) -> Callable[[Path], object]:
    def change(found: Path) -> None:
        (found / "config.json").unlink()
        (found / "config.json").symlink_to(target.format(place=found.parents[3]))

    return change


def blobs_elsewhere(found: Path) -> None:
    blobs = found.parents[1] / "blobs"
    blobs.rename(found.parents[3] / "elsewhere")
    blobs.symlink_to("../../elsewhere")


def blob(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """What a link leads to is exchanged for something else."""

    def change(found: Path) -> None:
        path = (found / "config.json").resolve()
        path.unlink()
        make(path)

    return change


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "out of the cache": (to("{place}/secret"), "config.json' is a symbolic link; .*made with `cp -rL"),
    "relative, out of the cache": (to("../../../../secret"), "is a symbolic link"),
    "through blobs and out": (to("../../blobs/../../../secret"), "is a symbolic link"),
    "another repository's": (to("../../../models--org--other/blobs/x"), "is a symbolic link"),
    "another file of the snapshot": (to(SAFE), "is a symbolic link"),
    "the folder of blobs": (to("../../blobs"), "is a symbolic link"),
    "blobs itself by another name": (to("../../blobs/."), "is a symbolic link|is a folder"),
    "a folder above": (to("../../blobs/.."), "is a symbolic link|is a folder"),
    "a folder within blobs": (to("../../blobs/sub/x"), "is a symbolic link"),
    "itself": (to("config.json"), "is a symbolic link"),
    "a ring": (lambda f: (to("ring/x")(f), (f / "ring").symlink_to("ring")), "is a symbolic link"),
    "blobs on another disk": (blobs_elsewhere, "is a symbolic link"),
    "a blob that is a link": (blob(lambda path: path.symlink_to("/etc/passwd")), "is a symbolic link"),
    "a blob that is a FIFO": (blob(os.mkfifo), "is a FIFO"),
    "a blob that is a folder": (blob(Path.mkdir), "is a folder"),
    "a blob that is gone": (blob(lambda path: None), "config.json' leads to .*, which is not there; fetch"),
    "a spare blob that is gone": (
        lambda f: (f / "notes").symlink_to("../../blobs/gone"),
        "notes' leads to .*gone, which is not there; fetch the model again, or remove the link",
    ),
    "a spare link out of the cache": (lambda f: (f / "notes").symlink_to("/etc/passwd"), "is a symbolic link"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_other_link_is_followed(tmp_path: Path, case: str) -> None:
    (tmp_path / "secret").write_text('{"architectures": ["LlamaForCausalLM"]}')
    found = cached(tmp_path)
    change, words = REFUSED[case]
    change(found)
    with pytest.raises(ArtefactError, match=words) as caught:
        open_checkpoint(found)
    assert "\n" not in str(caught.value)


def test_a_link_outside_a_snapshot_is_no_cache_s(tmp_path: Path) -> None:
    # As in a snapshot, but the folder above is not named so: a local folder of an old client.
    found = cached(tmp_path)
    found.parent.rename(found.parents[1] / "copies")
    with pytest.raises(ArtefactError, match="is a symbolic link"):
        open_checkpoint(found.parents[1] / "copies" / found.name)
    assert blob_of(found.parents[1] / "copies" / found.name / SAFE) is None


def test_a_blob_that_changes_is_noticed(tmp_path: Path) -> None:
    found = cached(tmp_path)
    opened = open_checkpoint(found)
    opened.check_unchanged()
    path = (found / SAFE).resolve()
    os.utime(path, (1, 1))
    with pytest.raises(ArtefactError, match="changed while it was used"):
        opened.check_unchanged()


def test_a_link_that_is_exchanged_for_one_that_leads_away_is_noticed(tmp_path: Path) -> None:
    found = cached(tmp_path)
    opened = open_checkpoint(found)
    (found / SAFE).unlink()
    (found / SAFE).symlink_to("/etc/passwd")
    with pytest.raises(ArtefactError, match="changed while it was used"):
        opened.check_unchanged()
    with pytest.raises(ArtefactError, match="is a symbolic link"):
        read_bytes(found / SAFE, 10**6)


def test_the_folder_of_a_repository_in_a_cache_names_its_snapshots(tmp_path: Path) -> None:
    found = cached(tmp_path)
    with pytest.raises(ArtefactError, match=f"give its snapshot {found}$"):
        Folder(str(found.parents[1])).cached(tmp_path)
    fetched = Folder(str(found)).cached(tmp_path)
    assert fetched is not None
    assert fetched.folder == found.resolve()
