"""Outputs are whole or not there."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.support.atomic import HOST, atomic_file, atomic_files, atomic_folder
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


KILLED = """
import os, signal, sys
from pathlib import Path
from runtime.support import atomic
folder = Path(sys.argv[1])
with atomic.atomic_file(folder / "one.txt") as file, atomic.atomic_files(folder, ["two.txt"]) as files:
    with atomic.atomic_folder(folder / "three") as other:
        for path in (file, files / "two.txt", other / "inside.txt"):
            path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one_that_writes_there(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(os.listdir(tmp_path)) == 3
    with atomic_file(tmp_path / "another.txt") as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == ["another.txt"]


def test_what_others_write_stays(tmp_path: Path) -> None:
    running, foreign = f".a.shrike-{HOST}-{os.getppid()}.txt", ".a.123456789.txt"
    elsewhere, forgotten = ".a.shrike-elsewhere-1.txt", ".b.shrike-elsewhere-1.txt"
    for name in (running, foreign, elsewhere, forgotten):
        (tmp_path / name).touch()
    os.utime(tmp_path / forgotten, (0, 0))
    with atomic_files(tmp_path, ["b.txt"]) as folder:
        (folder / "b.txt").touch()
    assert set(os.listdir(tmp_path)) == {running, foreign, elsewhere, "b.txt"}


def test_a_folder_whose_replacement_was_killed_half_way_comes_back(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".report.shrike-{HOST}-{dead.pid}.before", f".report.shrike-{HOST}-{dead.pid}"):
        (tmp_path / name).mkdir()
    (tmp_path / f".report.shrike-{HOST}-{dead.pid}.before" / "a.txt").write_text("old")
    with pytest.raises(ValueError, match="bug"), atomic_folder(tmp_path / "report"):
        raise ValueError("bug")
    assert [path.name for path in tmp_path.rglob("*")] == ["report", "a.txt"]


def test_a_process_of_the_same_number_as_the_killed_one_can_write(tmp_path: Path) -> None:
    """In a container every run is process 1."""
    (tmp_path / f".b.txt.shrike-{HOST}-{os.getpid()}").mkdir()
    with atomic_files(tmp_path, ["b.txt"]) as folder:
        (folder / "b.txt").touch()
    assert os.listdir(tmp_path) == ["b.txt"]


def test_a_folder_by_another_name_is_tidied_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "real" / "a.txt") as outer:
        outer.write_text("a")
        with atomic_file(tmp_path / "link" / "b.txt") as inner:
            inner.write_text("b")
    assert sorted(os.listdir(tmp_path / "real")) == ["a.txt", "b.txt"]
