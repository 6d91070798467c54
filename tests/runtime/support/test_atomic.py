"""Outputs are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from runtime.support.atomic import atomic_file, atomic_folder
from runtime.support.errors import ShrikeError


def test_a_file_appears_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path / "deep" and temporary.suffix == ".txt"
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert [(path.name, path.read_text()) for path in (tmp_path / "deep").iterdir()] == [("a.txt", "new")]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
def test_whatever_goes_wrong_the_old_file_stands(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(tmp_path: Path, number: int) -> None:
    with pytest.raises(ShrikeError, match=r"a\.txt"), atomic_file(tmp_path / "a.txt"):
        raise OSError(number, "full")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ShrikeError, match="file"), atomic_file(tmp_path / "file" / "a.txt"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(ShrikeError, match="folder"), atomic_file(tmp_path / "folder") as temporary:
        temporary.write_text("x")


def test_a_folder_appears_whole_in_place_of_what_stood_there(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "deep" / "report") as temporary:
            (temporary / f"{text}.txt").write_text(text)
            assert temporary.parent == tmp_path / "deep"
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["report", "new.txt"]


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), OSError(errno.EIO, "broken disk")])
def test_whatever_goes_wrong_the_old_folder_stands(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "a.txt").write_text("old")
    with pytest.raises(type(error)), atomic_folder(tmp_path / "report") as temporary:
        (temporary / "a.txt").write_text("half")
        raise error
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["report", "report/a.txt"]


def test_a_folder_where_none_can_be_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShrikeError, match="file/report"), atomic_folder(tmp_path / "file" / "report"):
        pass
