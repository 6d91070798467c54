"""benchmarks.latency on small models: the report is complete and its parts fit together."""

import sys
from pathlib import Path

import pytest

from benchmarks.cases import Subject, of_file
from benchmarks.latency import __main__ as command
from benchmarks.latency.lineup import Entry, Lineup, add_subject
from benchmarks.latency.tables import calls_table
from benchmarks.report import Measured, Report, read_report
from benchmarks.stats import Case, Times
from runtime.audio.features import PRESETS
from runtime.support.errors import ShrikeError
from tests.runtime.made_model import made_model


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A model, the same file as a peer, and everything switched on."""
    folder = tmp_path_factory.mktemp("latency")
    model = made_model(folder / "door")
    words = [str(model), "--peer", str(model), "--threads", "1", "2", "--batch", "4", "--check-bare"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["x", *words, "--seconds", "0.02", "--runs", "10", "--out", str(folder / "report")])
        command.main()
    assert all((folder / "report" / plot.file).is_file() for plot in read_report(folder / "report").plots)
    return read_report(folder / "report")


def test_every_model_has_a_row_with_all_parts(report: Report) -> None:
    rows = report.table("steps").records()
    expected = [("door", "float", 1), ("door", "float", 2), ("model", "peer", 1), ("model", "peer", 2)]
    assert [(row["model"], row["form"], row["threads"]) for row in rows] == expected
    for row in rows:
        peer = row["form"] == "peer"
        assert (row["step"] is None) == (row["features"] is None) == peer
        for name in ("network",) if peer else ("features", "network", "step"):
            cell = row[name]
            assert isinstance(cell, Measured) and len(cell.rounds) == report.conditions["rounds"] and cell.value > 0
        if isinstance(row["step"], Measured):
            assert row["of budget"] == pytest.approx(100 * row["step"].value / 97.5)


def test_percentiles_are_ordered_and_runs_counted(report: Report) -> None:
    rows = report.table("times").records()
    assert len(rows) == 1 + 2 * 3 + 2  # features; network, step and bare by threads; the peer's network by threads
    for row in rows:
        values = [float(row[name]) for name in ("min", "median", "p90", "p95", "p99", "max")]  # type: ignore[arg-type]
        assert values == sorted(values) and values[0] <= row["mean"] <= values[-1] and row["runs"] >= 10  # type: ignore[operator]


def test_the_bare_loop_is_beside_the_engine(report: Report) -> None:
    steps = {(row["model"], row["threads"]): row for row in report.table("steps").records()}
    rows = report.table("bare").records()
    assert len(rows) == 2 and all(row["engine"] == steps[row["model"], row["threads"]]["network"] for row in rows)


def test_conditions_and_notes(report: Report) -> None:
    assert any("--batch 4" in note for note in report.notes)
    assert report.conditions["inputs of peers"] == {"model": "features 1x1x45x600 float32"}
    assert report.machine["run"]["seconds"] > 0 and "/tmp" not in report.command


@pytest.mark.parametrize("wrong", [{"models": ()}, {"batch": (0,)}, {"threads": (0,)}, {"seconds": 0.0}, {"forms": ()}])
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ShrikeError):
        command.Options(**wrong)  # type: ignore[arg-type]


def entry(model: str, form: str, batch: int, cpu: float, frames: int | None = None) -> Entry:
    subject = Subject(model, form, Path("none"), PRESETS["f0"], -1, frames) if form != "peer" else None
    times = Times(((9.0,) * 2,) * 20, (cpu,) * 20)
    return Entry(model, form, "network", batch, 1, Case("", lambda: None), subject, times)


def test_a_step_is_compared_with_the_window_of_the_same_network() -> None:
    """By processor time, per stream."""
    entries = [entry("net-streaming", "u8", 1, 0.001, 16), entry("net-streaming", "u8", 4, 0.002, 16),
               entry("net", "u8", 1, 0.01), entry("other", "u8", 1, 0.5),
               entry("theirs", "peer", 1, 0.039)]  # fmt: skip
    lineup = Lineup(entries, work={("net", "u8"): 2_000_000})
    one, four, window, _, peer = calls_table(lineup).records()
    assert (one["input"], window["input"], peer["input"]) == ("new frames", "window", "its own")
    assert (one["new"], window["new"], window["multiply-adds"]) == (16, 12, 2.0)
    ratios = [row["window / step"] for row in (one, four)]
    assert [cell.value for cell in ratios if isinstance(cell, Measured)] == pytest.approx([10, 20])
    assert four["CPU"] == pytest.approx(0.5) and window["window / step"] is None and four["each"] == 9000 / 4
    assert one["a second"] == pytest.approx(9000 / 0.13) and peer["a second"] == pytest.approx(9000 / 0.0975)


def test_a_tensorrt_engine_has_its_own_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With MOCKS of TensorRT and the driver."""
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import write_card
    from tests.export.mock_tensorrt import MockCuda, MockTensorRT
    from tests.runtime.engines.test_tensorrt_engine import make_card, replace

    path = tmp_path / "model.engine"
    path.write_bytes(b"MOCK plan")
    write_card(path, replace(make_card(), files={path.name: sha256_file(path)}))
    monkeypatch.setattr("runtime.engines.tensorrt.load_tensorrt", lambda: MockTensorRT("10.3.0"))
    monkeypatch.setattr("runtime.engines.tensorrt.open_cuda", lambda: MockCuda())
    lineup, subject = Lineup(), of_file(path, "jetson")
    assert (subject.form, subject.batch) == ("TensorRT fp16", 1)
    add_subject(lineup, subject, 1, [1, 8], bare=True)
    assert [found.part for found in lineup.entries] == ["network", "step"] and len(lineup.notes) == 1
    for found in lineup.entries:
        found.case.run()
    for engine in lineup.engines:
        engine.close()
    assert not MockCuda.newest.memory
