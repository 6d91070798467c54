"""--config: the same checks as on the command line, and files that mean harm."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
import tyro

from runtime.support.command import PATHS, WORDS, parse
from runtime.support.config_file import ConfigError
from runtime.support.errors import ShrikeError


@dataclass(frozen=True)
class Inner:
    """Options within options."""

    lr: float = 1e-3
    """A number."""


@dataclass(frozen=True)
class Options:
    """One option of each kind."""

    inner: tyro.conf.OmitArgPrefixes[Inner]
    corpus: Path
    """A path without a default."""
    file: Annotated[tuple, PATHS] = ()
    """Paths."""
    device: Annotated[tuple, WORDS] = ()
    """Words."""
    threads: int = 1
    """A whole number."""
    mic_gain: float = 0.0
    """A number with a dash in its name."""
    json: bool = False
    """A switch."""
    kind: Literal["left", "right"] = "left"
    """A choice."""
    noise: Optional[tuple[float, float]] = None  # noqa: UP045
    """Two numbers."""
    on_change: str = ""
    """Text."""
    config: Optional[Path] = None  # noqa: UP045
    """A file."""


def given(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str | bytes, *words: str) -> Any:
    path = folder / "shrike.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setattr(sys, "argv", ["x", "--config", str(path), *words])
    return parse(Options, "tests", "A test.")


EVERYTHING = """
corpus = "a folder/corpus"
file = ["a.wav", "b c.wav"]
device = "USB"
threads = -2
mic-gain = 3
json = true
kind = "right"
noise = [-90, -50.5]
on_change = "--odd 'words'"
lr = 0.5
"""


def test_every_kind_of_option_can_stand_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = given(monkeypatch, tmp_path, EVERYTHING)
    assert options == Options(
        inner=Inner(0.5), corpus=Path("a folder/corpus"), file=(Path("a.wav"), Path("b c.wav")), device=("USB",),
        threads=-2, mic_gain=3.0, json=True, kind="right", noise=(-90.0, -50.5), on_change="--odd 'words'",
        config=tmp_path / "shrike.toml",
    )  # fmt: skip


def test_the_command_line_overrides_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["--file", "x.wav", "--threads", "3", "--kind=left", "--lr", "2", "--no-json"]
    options = given(monkeypatch, tmp_path, EVERYTHING, *words)
    assert (options.file, options.threads, options.kind) == ((Path("x.wav"),), 3, "left")
    assert options.inner.lr == 2.0 and options.json is False and options.device == ("USB",)


def test_what_the_file_leaves_out_has_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = given(monkeypatch, tmp_path, "json = false\ndevice = []", "--corpus", "c")
    assert options == Options(Inner(), Path("c"), config=tmp_path / "shrike.toml")


def test_a_mistyped_key_names_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        given(monkeypatch, tmp_path, "treads = 2", "--corpus", "c")
    assert "threads" in str(caught.value) and "shrike.toml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["threads = '2'", "threads = 2.5", "threads = true", "threads = [1]", "threads = 1979-05-27", "json = 1"]
    + ["json = 'yes'", "mic-gain = 'loud'", "mic-gain = true", "kind = 'middle'", "kind = 1", "noise = [1]"]
    + ["noise = ['a', 'b']", "noise = 3", "file = [1, 2]", "device = ['--json']", "corpus = 3", "on-change = []"]
    + ['on-change = "a\\u0000b"', "[stream]\nthreads = 1", "[threads]", "config = 'other.toml'", "help = true"]
    + ["threads = 1\nthreads = 2", "mic-gain = 1\nmic_gain = 2", "threads", "= 3", "\0", "threads = 2 # \x1b"],
)
def test_values_of_another_kind_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        given(monkeypatch, tmp_path, text, "--corpus", "c")
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "data",
    [b"threads = " + b"9" * 15_000, b"noise = " + b"[" * 15_000, b"threads = 1 #" + b"x" * 70_000]
    + [b"on-change = '\xff\xfe'", b"a." * 8_000 + b"b = 1", b"\xef\xbb\xbfthreads = 1", b"x = {" * 3_000],
    ids=["digits", "deep", "large", "latin", "dotted", "bom", "tables"],
)
def test_hostile_files_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        given(monkeypatch, tmp_path, data, "--corpus", "c")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_000


def test_only_a_regular_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "absent.toml", Path("/dev/zero"), Path("a\0b")):
        monkeypatch.setattr(sys, "argv", ["x", "--config", str(path), "--corpus", "c"])
        with pytest.raises(ConfigError):
            parse(Options, "tests", "A test.")


def test_a_config_without_a_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--corpus", "c", "--config"])
    with pytest.raises(ShrikeError):
        parse(Options, "tests", "A test.")
