"""Scan: one row a file, in any process; a killed run goes on, a killed worker loses no file."""

import csv
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.features import RATE
from runtime.card.model_card import ScoreMap
from runtime.engines.model_loader import load_model
from runtime.scan import __main__ as scan
from runtime.scan.results import COLUMNS, ResultFile, Settings
from runtime.scan.workers import Result, Setup, score_files
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sources.file import FileSource
from runtime.summary import BORDERLINE
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict
from tests.runtime.made_model import made_model
from tests.runtime.made_steps import made_steps
from tests.runtime.speech import speech
from tests.test_house import ROOT

Scan = Callable[..., int]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Models of random weights that call every voice real, fake, or neither; a streaming one."""
    folder = tmp_path_factory.mktemp("models")
    maps = {"bonafide": 20.0, "spoof": -20.0, "unsure": 0.0, "borderline": -1.0}
    made = {
        name: str(made_model(folder, name=name, score=ScoreMap(1e-6, llr, 0.0, "random trials")))
        for name, llr in maps.items()
    }
    return made | {"steps": str(made_steps(folder, name="steps"))}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of speech, one without, in two folders; beside them a link, a hidden file, and text."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "more").mkdir()
    for number in range(7):
        soundfile.write(folder / f"{number}.flac", speech(4.2, number), RATE)
    soundfile.write(os.fsencode(folder / "more" / "a\udcff, b.wav"), speech(4.2, 9), RATE)
    soundfile.write(folder / "more" / "silence.wav", np.random.default_rng(0).normal(0, 1e-3, RATE), RATE)
    (folder / "link.flac").symlink_to(folder / "0.flac")
    (folder / ".hidden.flac").write_bytes(b"")
    (folder / "notes.txt").write_text("no sound")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, models: dict[str, str]) -> Scan:
    def ran(*words: object, model: str = "unsure", workers: int = 1) -> int:
        line = ["scan", *map(str, words), "--model", models[model], "--workers", str(workers)]
        monkeypatch.setattr(sys, "argv", line)
        return scan.main()

    return ran


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_sound_file_has_a_row(run: Scan, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls, "--csv", tmp_path / "v.csv") == 0
    rows = rows_of(tmp_path / "v.csv")
    assert len(rows) == 9 == capsys.readouterr().out.count("\n") and set(rows[0]) == set(COLUMNS)
    assert rows[-2]["file"].endswith("a\\udcff, b.wav") and rows[-1]["state"] == "no-voice" and not rows[-1]["llr"]
    assert not (tmp_path / "v.csv.partial").exists()


def test_json_lines_and_workers_give_the_same_rows(run: Scan, calls: Path, tmp_path: Path) -> None:
    tables = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for workers, table in enumerate(tables, 1):
        assert run(calls, "--json", table, model="spoof", workers=workers) == 0
    one, two = ([json.loads(line) for line in table.read_text("utf-8").splitlines()] for table in tables)
    assert one == two and {row["state"] for row in one} == {"spoof", "no-voice"}
    (segment,) = one[0]["segments"]
    assert segment["start"] == 0 and segment["end"] == pytest.approx(one[0]["seconds"], abs=1e-3)


def test_a_state_close_to_another_is_flagged(
    run: Scan, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, flagged in (("borderline", True), ("spoof", False)):
        assert run(calls / "0.flac", "--csv", tmp_path / f"{model}.csv", model=model) == 0
        (row,) = rows_of(tmp_path / f"{model}.csv")
        assert row["state"] == "spoof" and ("borderline" in row["flags"]) == flagged
        printed = capsys.readouterr()
        assert ("borderline" in printed.out) == (BORDERLINE in printed.err) == flagged


@pytest.mark.parametrize(
    ("model", "fail_on", "code"),
    [
        ("spoof", "spoof", 10),
        ("spoof", "never", 0),
        ("bonafide", "unsure", 0),
        ("unsure", "spoof", 0),
        ("unsure", "unsure", 11),
    ],
)
def test_exit_codes(model: str, fail_on: str, code: int, run: Scan, calls: Path) -> None:
    assert run(calls / "0.flac", "--fail-on", fail_on, model=model) == code


def test_an_unreadable_file_is_a_row_and_the_others_are_scored(run: Scan, calls: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    assert run(broken, calls / "1.flac", "--csv", tmp_path / "v.csv", "--fail-on", "unsure") == 2
    rows = {Path(row["file"]).name: row for row in rows_of(tmp_path / "v.csv")}
    assert rows["broken.wav"]["error"] and not rows["broken.wav"]["state"] and rows["1.flac"]["state"] == "unsure"
    soundfile.write(broken, speech(4.2), RATE)
    assert run(broken, calls / "1.flac", "--csv", tmp_path / "v.csv") == 0  # mended: scored anew


def test_a_killed_scan_goes_on(run: Scan, calls: Path, models: dict[str, str], tmp_path: Path) -> None:
    whole, table = tmp_path / "whole.csv", tmp_path / "v.csv"
    partial = tmp_path / "v.csv.partial"
    words = [sys.executable, "-m", "runtime.scan", str(calls), "--csv", str(table), "--model", models["unsure"]]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (partial.exists() and partial.read_bytes().count(b"\n") >= 3):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    if not partial.exists():  # it was faster
        table.rename(partial)
    before = partial.read_bytes().splitlines(keepends=True)[:3]
    partial.write_bytes(b"".join(before) + b"calls/9.flac,spo")
    assert run(calls, "--csv", table) == 0 and run(calls, "--csv", whole) == 0
    assert table.read_bytes() == whole.read_bytes() and set(before) <= set(table.read_bytes().splitlines(keepends=True))


def test_a_table_that_another_scan_writes_is_refused_until_it_has_ended(run: Scan, calls: Path, tmp_path: Path) -> None:
    table, settings = tmp_path / "v.csv", Settings("m", "0", "o")
    with ResultFile(table, "csv", settings, overwrite=False) as first:
        first.add(Result(calls / "0.flac", 1, 1, error="none"))
        for overwrite in (False, True):
            with pytest.raises(ShrikeError):
                ResultFile(table, "csv", settings, overwrite)
        first.add(Result(calls / "1.flac", 1, 1, error="none"))
        first.complete()
    assert len(rows_of(table)) == 2 and os.listdir(tmp_path) == ["v.csv"]
    ResultFile(table, "csv", settings, overwrite=False).complete()


def test_a_refused_table_leaves_nothing_behind(run: Scan, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("something else\n")
    with pytest.raises(ShrikeError):
        run(calls, "--csv", tmp_path / "v.csv")
    assert os.listdir(tmp_path) == ["v.csv"]


@pytest.mark.parametrize("name", ["file", "state", "size", "modified"])
def test_a_table_with_lists_for_values_is_refused(name: str, run: Scan, calls: Path, tmp_path: Path) -> None:
    table = tmp_path / "v.jsonl"
    run(calls / "0.flac", "--json", table)
    table.write_text(json.dumps(json.loads(table.read_text("utf-8")) | {name: [1]}) + "\n", "utf-8")
    with pytest.raises(ShrikeError):
        run(calls / "0.flac", "--json", table)


def test_a_finished_scan_is_not_repeated(
    run: Scan, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, clip = tmp_path / "v.csv", tmp_path / "x.wav"
    soundfile.write(clip, speech(4.2), RATE)
    printed = []
    for _ in range(2):
        assert run(clip, calls / "0.flac", "--csv", table, "--fail-on", "spoof", model="spoof") == 10
        printed.append(capsys.readouterr().out.count("\n"))
    soundfile.write(clip, speech(4.5), RATE)  # changed: scored anew
    run(clip, calls / "0.flac", "--csv", table, model="spoof")
    assert [*printed, capsys.readouterr().out.count("\n")] == [2, 0, 1]


@pytest.mark.parametrize("words", [["--prior", "0.4"], ["--every", "1"], ["--model", "bonafide"]])
def test_a_table_of_other_options_is_refused(words: list[str], run: Scan, calls: Path, tmp_path: Path) -> None:
    table = tmp_path / "v.csv"
    run(calls / "0.flac", "--csv", table)
    model, words = ("bonafide", []) if "--model" in words else ("unsure", words)
    before = table.read_bytes()
    with pytest.raises(ShrikeError):
        run(calls / "0.flac", "--csv", table, *words, model=model)
    assert table.read_bytes() == before
    assert run(calls / "0.flac", "--csv", table, *words, "--overwrite", model=model) == 0


def test_another_file_is_not_overwritten_by_mistake(run: Scan, calls: Path, tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text("name,age\nx,3\n")
    with pytest.raises(ShrikeError):
        run(calls / "0.flac", "--csv", tmp_path / "v.csv")


@pytest.mark.parametrize("words", [[], ["--overwrite"]])
def test_a_table_takes_the_place_of_files_only(
    words: list[str], run: Scan, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device may be read without end, and --overwrite would put a file in its place. Sockets stand for them here."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        with pytest.raises(ShrikeError):
            run(calls / "0.flac", "--json", "socket", *words)
        assert Path("socket").is_socket()


def test_a_missing_path_fails_after_the_others(run: Scan, calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls / "none.flac", calls / "1.flac") == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1 and "none.flac: expected a file or folder" in captured.err
    with pytest.raises(ShrikeError, match="--csv and --json"):
        run(calls, "--csv", "-")


def test_a_folder_that_cannot_be_read_fails_after_the_others(
    run: Scan, calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.fspath(path).endswith("more"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read every folder
    assert run(calls, "--fail-on", "unsure") == 2
    assert capsys.readouterr().out.count("\n") == 7


@pytest.mark.parametrize(("words", "code"), [(["--fail-on", "spoof"], 10), ([], 0)])
def test_a_reader_that_leaves_hides_no_fake(words: list[str], code: int, calls: Path, models: dict[str, str]) -> None:
    line = [sys.executable, "-m", "runtime.scan", str(calls / "0.flac"), "--model", models["spoof"], *words]
    read, write = os.pipe()
    os.close(read)
    try:
        assert subprocess.run(line, cwd=ROOT, stdout=write, stderr=subprocess.DEVNULL, timeout=60).returncode == code
    finally:
        os.close(write)


# ---------------------------------------------------------------- workers that die


def killing(until: threading.Event) -> None:
    while not until.wait(0.02):
        for child in multiprocessing.active_children():
            child.kill()


@pytest.mark.parametrize("always", [False, True])
def test_a_killed_worker_loses_no_file(always: bool, models: dict[str, str], calls: Path) -> None:
    paths = [calls / f"{number}.flac" for number in range(2 if always else 7)]
    model = load_model(Path(models["unsure"]), "auto")
    setup = Setup(models["unsure"], "auto", "cpu", VerdictOptions(308, cover=True))
    over = threading.Event()
    killer = threading.Thread(target=killing, args=(over,))
    results: list[Result] = []
    if always:
        killer.start()
    for result in score_files(setup, model, paths, 2, Stop()):
        if not results and not always:
            multiprocessing.active_children()[0].kill()
        results.append(result)
    over.set()
    assert sorted(result.path for result in results) == paths
    assert all(bool(result.error) == always for result in results)


# ---------------------------------------------------------------- as few windows as cover the voice


class Times(Sink):
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self.verdicts.append(verdict)


@pytest.fixture
def ends(models: dict[str, str], tmp_path: Path) -> Iterator[Callable[[str, np.ndarray], list[float]]]:
    """Ends of the windows that are scored, in s."""

    def found(name: str, sound: np.ndarray) -> list[float]:
        soundfile.write(tmp_path / "x.wav", sound, RATE)
        model, times = load_model(Path(models[name]), "auto"), Times()
        options = VerdictOptions(304 if name == "steps" else 308, smoothing=0.0, cover=True)
        Session(model, [times], options).run(FileSource(tmp_path / "x.wav", RATE, Stop()), Stop())
        return [one.time for one in times.verdicts if one.state != "no-voice"]

    yield found


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.5, [1.5]), (4.0, [4.0]), (5.2, [5.0]), (6.5, [5.0, 6.5]), (7.6, [5.0, 7.5]), (12.0, [5.0, 7.5, 10.0, 12.0])],
)
def test_windows_of_a_file(ends: Callable[..., list[float]], seconds: float, expected: list[float]) -> None:
    assert ends("unsure", speech(seconds)) == pytest.approx(expected, abs=0.11)  # a frame has 0.11 s


def test_sound_without_voice_needs_no_last_window(ends: Callable[..., list[float]]) -> None:
    sound = np.concatenate([speech(5.1), np.zeros(RATE, np.float32)])
    assert len(ends("unsure", sound)) == 1


def test_a_streaming_model_scores_the_end_of_a_file(ends: Callable[..., list[float]]) -> None:
    assert ends("steps", speech(9.0))[-1] == pytest.approx(9.0, abs=0.3)  # a step has 0.13 s
