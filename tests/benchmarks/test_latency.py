"""benchmarks.latency on real pieces: what the report says is there, fits together, and is said once."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import host
from benchmarks.forms import Subject, of_file
from benchmarks.latency import Options
from benchmarks.latency_report import BUDGET, Result, gpu_table, sound_table, unsteady
from benchmarks.lineup import Entry, Lineup, _add_subject, frontend_name
from benchmarks.report import Measured, Report, read_report
from benchmarks.steps import Sound, features_part, network_part, step_part, windows
from benchmarks.timing import Case, Times
from runtime.audio.features import PRESETS, FrontEnd
from runtime.engines import open_engine
from runtime.audio.framer import STEP
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model

ROOT = Path(__file__).resolve().parent.parent.parent
QUICK = ("--seconds", "0.02", "--runs", "10")


def command(*arguments: Path | str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.latency", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Two models, one of them as a peer as well, with everything switched on."""
    folder = tmp_path_factory.mktemp("latency")
    model, wide = made_model(folder / "door"), made_model(folder / "gate", "wide", "gate")
    done = command(
        model, wide, "--peer", model, "--threads", "1", "2", "--batch", "4", "--check-bare", "--out", "report", *QUICK,
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "report", done


@pytest.fixture(scope="module")
def report(measured: tuple[Path, Any]) -> Report:
    return read_report(measured[0])


def test_every_model_has_a_row_with_all_parts(report: Report) -> None:
    rows = report.table("steps").records()
    expected = [("door", "float"), ("gate", "float"), ("model", "peer")]
    assert [(row["model"], row["form"], row["threads"]) for row in rows] == [(*e, n) for e in expected for n in (1, 2)]
    for row in rows:
        peer = row["form"] == "peer"
        assert (row["step"] is None) == (row["features"] is None) == peer
        for name in ("network",) if peer else ("features", "network", "step"):
            cell = row[name]
            assert isinstance(cell, Measured) and len(cell.rounds) == report.conditions["rounds"] and cell.value > 0
        if not peer:
            assert row["of budget"] == pytest.approx(100 * row["step"].value / BUDGET)
            assert isinstance(row["memory"], float) and row["memory"] > 10
    assert pytest.approx(97.5) == BUDGET


def test_percentiles_lie_in_order_and_runs_are_as_many_as_asked(report: Report) -> None:
    rows = report.table("times").records()
    # Per front-end its features; per model and threads network, step and bare; per threads the peer's network.
    assert len(rows) == 2 + 2 * 2 * 3 + 2
    for row in rows:
        values = [float(row[name]) for name in ("min", "median", "p90", "p95", "p99", "max")]  # type: ignore[arg-type]
        assert values == sorted(values) and values[0] <= row["mean"] <= values[-1] and row["runs"] >= 10  # type: ignore[operator]


def test_the_bare_loop_stands_beside_the_engine(report: Report) -> None:
    steps = {(row["model"], row["threads"]): row for row in report.table("steps").records()}
    rows = report.table("bare").records()
    assert len(rows) == 4
    for row in rows:
        ratio = row["engine / bare"]
        assert row["engine"] == steps[row["model"], row["threads"]]["network"]
        assert isinstance(ratio, Measured) and ratio.low is not None and ratio.low <= ratio.value


def test_what_a_reader_must_know_is_said_once(report: Report) -> None:
    fixed = [note for note in report.notes if "fixed at 1" in note]
    assert fixed == [
        "door float, gate float, model: its batch is fixed at 1, so --batch 4 was not measured",
    ]
    assert "batches" not in {table.name for table in report.tables}
    assert report.conditions["inputs of model"] == "features 1x1x45x600 float32"
    assert report.machine["run"]["seconds"] > 0 and "cpu" in report.machine
    assert str(report.command).startswith("python -m benchmarks.latency ") and "/tmp" not in report.command


def test_plots_are_there_and_the_page_shows_them(measured: tuple[Path, Any], report: Report) -> None:
    folder, done = measured
    assert sorted(path.name for path in folder.iterdir()) == [
        "budget.png", "distribution.png", "report.json", "report.md",
    ]  # fmt: skip
    assert all((folder / plot.file).read_bytes().startswith(b"\x89PNG") for plot in report.plots)
    assert done.stdout.startswith("| model ") and "engine / bare" in done.stdout
    assert "report: report/report.md" in done.stderr
    assert done.stdout.split("\n\n")[0] in (folder / "report.md").read_text()


def test_a_report_that_is_there_is_not_measured_over(measured: tuple[Path, Any]) -> None:
    folder, _ = measured
    again = command("f0", "--out", folder, cwd=folder.parent)
    assert again.returncode == 2 and "--overwrite" in again.stderr and again.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ecanet10",), "no such model"),
        (("f0", "--batch", "0"), "--batch"),
        (("f0", "--threads", "0"), "--threads"),
        (("f0", "--seconds", "0"), "--seconds"),
        (("f0", "--peer-shape", "x=1"), "needs a --peer"),
        (("f0", "--peer", "none.onnx"), "none.onnx"),
    ],
)
def test_what_cannot_be_measured_is_one_line_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = command(*arguments, cwd=tmp_path)
    errors = [line for line in done.stderr.splitlines() if not line.startswith("preparing ")]
    assert done.returncode == 2 and len(errors) == 1 and message in errors[0]
    assert done.stdout == "" and not (tmp_path / "runs").exists()


def test_a_run_names_models_or_peers() -> None:
    with pytest.raises(ShrikeError, match="name models"):
        Options(models=())
    assert Options().models == ("f0", "wide")


# ---- the parts of a step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["f0", "wide"])
def test_parts_do_what_a_stream_does(tmp_path: Path, preset: str) -> None:
    """The step's score is the engine's on the window that the features' part has at the same time."""
    path = made_model(tmp_path, preset)
    frontend = PRESETS[preset]
    with_network, features, engine = step_part(open_engine(path), frontend), features_part(frontend), open_engine(path)
    for _ in range(5):
        score, window = with_network(), features()
        spoof, bonafide = engine(window[None, None])[0]  # type: ignore[index]
        assert score == float(bonafide) - float(spoof)


def test_windows_are_neighbours_of_one_sound() -> None:
    frontend = FrontEnd()
    batch = windows(frontend, 3)
    assert batch.shape == (3, 1, 45, 600) and batch.dtype == np.float32
    np.testing.assert_array_equal(batch[0, 0, :, STEP:], batch[1, 0, :, :-STEP])
    assert batch.min() > -23 and batch.std() > 1  # sound, not the floor


def test_the_sound_never_ends() -> None:
    sound = Sound(FrontEnd())
    chunks = [sound.next() for _ in range(500)]
    assert {len(chunk) for chunk in chunks} == {STEP * 130}


def test_a_batch_gives_as_many_logits(tmp_path: Path) -> None:
    engine = open_engine(made_model(tmp_path))
    assert np.shape(network_part(engine, PRESETS["f0"], 3)()) == (3, 2)


def test_front_ends_are_called_by_their_presets() -> None:
    assert frontend_name(PRESETS["wide"].with_level("window-mean")) == "wide"
    assert frontend_name(FrontEnd(bands=20)) == "20 bins, 1728 samples"


def test_a_step_stands_beside_the_window_of_the_same_network() -> None:
    """CPU times of 1, 2 and 10 ms: how many times a step a window takes, per stream, whatever a clock on the wall of a
    busy machine says; and what a second of sound costs by that clock."""
    frontend, path = PRESETS["f0"], Path("none.onnx")
    subjects = [Subject("net-streaming", "u8", path, frontend, -1, frames=16), Subject("net", "u8", path, frontend, 1)]
    lineup = Lineup([*subjects, Subject("other", "u8", path, frontend, 1)], [("theirs", path)])
    lineup.work["net", "u8"] = 2_000_000

    def timed(model: str, form: str, batch: int, seconds: float) -> Result:
        return Result(
            Entry(model, form, "network", batch, 1, Case("", lambda: None)), Times(((9.0,) * 2,) * 20, (seconds,) * 20)
        )

    calls = [("net-streaming", "u8", 1, 0.001), ("net-streaming", "u8", 4, 0.002), ("net", "u8", 1, 0.01)]
    calls += [("other", "u8", 1, 0.5), ("theirs", "peer", 1, 0.039)]
    one, four, window, _, peer = sound_table(lineup, [timed(*call) for call in calls]).records()
    assert (one["sees"], window["sees"], peer["sees"]) == ("new frames", "the window", "its own input")
    assert (one["new"], window["new"], window["multiply-adds"]) == (16, 12, 2.0)
    assert one["a window costs"].value == pytest.approx(10) and four["a window costs"].value == pytest.approx(20)  # type: ignore[union-attr]
    assert four["CPU"] == pytest.approx(0.5) and window["a window costs"] is None
    assert four["each"] == pytest.approx(9000 / 4)
    assert one["a second"] == pytest.approx(9000 / 0.13) and peer["a second"] == pytest.approx(9000 / 0.0975)


# ---- notes and the GPU -----------------------------------------------------------------------------------------------


def result(name: str, *medians: float) -> Result:
    times = Times(tuple((value, value) for value in medians))
    return Result(Entry(name, "u8", "step", 1, 1, Case(name, lambda: None)), times)


def test_unsteady_rounds_are_spoken_of() -> None:
    calm = result("calm", *[1.0, 1.02] * 10)
    assert unsteady([calm]) == []
    (note,) = unsteady([calm, result("wild", *[1.0, 1.5] * 10)])
    assert note.startswith("the rounds of 1 of 2 cases differ by more than 10%, most those of wild (50%)")
    assert unsteady([result("once", *[1.0] * 19, 5.0)]) == []  # a single hiccup is in the percentiles


def test_an_engine_has_its_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against MOCKS of TensorRT and the driver: that the numbers find their columns."""
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import write_card
    from runtime.engines.cuda import open_cuda
    from tests.export.mock_tensorrt import MockDriver, MockTensorRT
    from tests.runtime.engines.test_tensorrt_engine import make_card, replace

    path = tmp_path / "model.engine"
    path.write_bytes(b"MOCK plan")
    write_card(path, replace(make_card(), files={path.name: sha256_file(path)}))
    monkeypatch.setattr("runtime.engines.tensorrt.load_tensorrt", lambda: MockTensorRT("10.3.0"))
    monkeypatch.setattr("runtime.engines.tensorrt.open_cuda", lambda: open_cuda(MockDriver()))
    subject = of_file(path, "jetson")
    assert (subject.form, subject.batch) == ("TensorRT fp16", 1)
    lineup = Lineup([subject], [])
    _add_subject(lineup, subject, 1, (1, 8), bare=True)
    assert [entry.part for entry in lineup.entries] == ["network", "step"]  # no bare loop: that is ONNX Runtime's
    assert lineup.notes == ["jetson TensorRT fp16: its batch is fixed at 1, so --batch 8 was not measured"]
    for entry in lineup.entries:
        entry.case.run()
    (row,) = gpu_table(lineup.gpu_times()).records()
    assert (row["launch"], row["compute"], row["CUDA graph"], row["waiting"]) == (4.0, 2.0, True, "spin")
    lineup.close()
    assert not MockDriver.current.memory


# ---- energy ----------------------------------------------------------------------------------------------------------


def board(root: Path) -> Path:
    """A power monitor that shows 5 V and 1 A; returns the file with the current."""
    chip = root / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    for name, text in {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1000"}.items():
        (chip / name).write_text(text)
    return chip / "curr1_input"


def test_energy_is_that_of_a_step_beyond_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = board(tmp_path)
    monkeypatch.setattr("benchmarks.host.Watch", partial(host.Watch, interval_s=0.02, machine=host.Machine(tmp_path)))
    monkeypatch.setattr("benchmarks.lineup.IDLE", 0.3)

    def draw(milliamperes: int) -> None:
        (tmp_path / "new").write_text(str(milliamperes))
        (tmp_path / "new").replace(current)  # whoever reads it finds a number at any time

    lineup = Lineup([], [])
    for name, milliamperes in (("hungry", 3000), ("modest", 1000)):
        lineup.add(name, "u8", "step", 1, 1, Case(name, partial(draw, milliamperes)))
        lineup.add(name, "u8", "network", 1, 1, Case(name, partial(draw, 9000)))  # energy is asked for steps alone
    machine = host.describe(tmp_path)
    found = lineup.energy(machine, 0.5, lambda sentence: draw(1000))
    assert set(found) == {("hungry", "u8", 1)} and found["hungry", "u8", 1] > 0
    assert len(lineup.notes) == 1 and lineup.notes[0].startswith("energy of modest u8: not measured, because")


def test_without_a_power_monitor_one_note_says_so(tmp_path: Path) -> None:
    lineup = Lineup([], [])
    assert lineup.energy(host.describe(tmp_path), 1.0, print) == {}
    (note,) = lineup.notes
    assert note.startswith("energy: not measured, because")
