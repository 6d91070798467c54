"""Output for people: a view that fits 80 columns, lines that say what changed, a picture, a recording."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from runtime.audio.features import PRESETS, RATE
from runtime.audio.quality import FLAGS, Quality
from runtime.segments import Segment
from runtime.sinks import StreamInfo
from runtime.sinks.lines import Lines
from runtime.sinks.meter import Meter
from runtime.sinks.recorder import Recorder
from runtime.sinks.timeline import Timeline
from runtime.summary import Cost, Summary
from runtime.support.errors import ShrikeError
from runtime.verdict import State, Verdict

OPENING = StreamInfo(
    *("USB microphone", True, "ecanet9", "ONNX Runtime", "int8", True),
    *(0.0975, 4.98, 0.5, (0.0, 407.4), RATE, 0.1, 0.9, 0.3),
)
NAN = (float("nan"),) * 3
SUMMARY = Summary(
    *("clip.wav", 9.2, 8.1, 83, "spoof", -0.8, 0.1, -1.4, 0.81, (Segment(1.0, 5.0, 0.9),), {"spoof": 1.0}, {}, 0.5, 1),
    Cost(NAN, NAN, 0.1, 90, 1),
)


def verdict(time: float, state: State = "bonafide", flags: tuple[str, ...] = (), level: float = -20.0) -> Verdict:
    spectrum = np.linspace(-30, -90, 257)
    return Verdict(time, state, 1.0, 2.0, 1.5, 0.18, 4.0, 60.0, Quality(level, False, flags, spectrum))


@pytest.mark.parametrize("width", [80, 60, 100])
@pytest.mark.parametrize("level", [-120.0, -20.0, 12.0])
def test_the_live_view_fits_the_terminal(width: int, level: float) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=24, force_terminal=True, color_system=None)
    meter = Meter(console)
    meter.begin(OPENING)
    for second in range(130):
        meter.verdict(verdict(second, "spoof", tuple(FLAGS), level), 0.018)
    meter.gap(99.0, 1.5, True)
    meter.note("the microphone is back")
    shown = meter.view(width).plain
    meter.end(SUMMARY)
    meter.close()
    drawn = shown.splitlines()
    assert len(drawn) < 24
    assert all(len(line) <= width for line in drawn[:5])
    for wanted in ("SPOOF", "P(spoof) 0.18", "dBFS", "0-407 Hz", "18 ms late", "1.5 s lost in 1 gaps", *FLAGS):
        assert wanted in shown
    assert (
        "clip.wav: spoof" in screen.getvalue()
        and "8.1 of 9.2 s voiced; spoof 1.0-5.0 s (peak P 0.90)" in SUMMARY.line()
    )


def test_a_terminal_that_is_too_narrow_ends_no_stream() -> None:
    meter = Meter(Console(file=io.StringIO(), width=20, force_terminal=True))
    meter.begin(OPENING)
    meter.verdict(verdict(1, "spoof", (), -20.0), 0.018)
    assert "SPOOF" in meter.view(20).plain
    meter.close()


def test_the_view_says_that_it_listens_before_there_is_a_verdict() -> None:
    meter = Meter(Console(file=io.StringIO(), width=80, force_terminal=True))
    meter.begin(OPENING)
    assert "LISTENING" in meter.view(80).plain
    meter.close()
    meter.close()


def test_a_terminal_without_utf_8_gets_ascii() -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    meter = Meter(Console(file=screen, width=80, force_terminal=True))
    meter.begin(OPENING)
    meter.verdict(verdict(5.0), 0.01)
    assert meter.view(80).plain.isascii()
    meter.close()


def test_lines_come_once_a_second_and_at_every_change() -> None:
    out, err = io.StringIO(), io.StringIO()
    lines = Lines(out, err)
    lines.begin(OPENING)
    for step in range(20):
        lines.verdict(verdict(5 + step / 10), None)
    lines.verdict(verdict(7.0, "spoof", ("clipping",)), None)
    lines.verdict(verdict(7.1, "spoof", ("clipping",)), None)
    lines.gap(8.0, 1.0, True)
    shown = out.getvalue().splitlines()
    assert len(shown) == 3
    assert "bonafide" in shown[0] and "[clipping]" in shown[2]
    assert FLAGS["clipping"] in err.getvalue() and "1.00 s of sound lost" in err.getvalue()


def test_missing_sound_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    err, nothing = io.StringIO(), np.empty(0, np.float32)
    lines = Lines(io.StringIO(), err)
    lines.begin(OPENING)
    lines.sound(nothing)
    assert err.getvalue() == ""
    monkeypatch.setattr("runtime.sinks.lines.STILL", -1.0)
    lines.sound(nothing)
    lines.sound(nothing)
    assert err.getvalue().count("no sound") == 1


def test_a_picture_of_a_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    timeline = Timeline(tmp_path / "clip.png", PRESETS["f0"])
    timeline.begin(OPENING)
    timeline.sound((np.random.default_rng(0).standard_normal(2 * RATE) * 0.1).astype(np.float32))
    states: Any = ("warming-up", "bonafide", "spoof", "unsure", "no-voice", "too-short")
    for second, state in enumerate(states):
        timeline.verdict(verdict(second, state), None)
    timeline.end(SUMMARY)
    assert (tmp_path / "clip.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ShrikeError):
        Timeline(tmp_path / "clip.exe", PRESETS["f0"])


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ShrikeError, match=r"\[plot\]") as caught:
        Timeline(tmp_path / "clip.png", PRESETS["f0"])
    assert "\n" not in str(caught.value)


def test_a_recording_that_cannot_begin_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShrikeError):
        Recorder(tmp_path / "file" / "x.flac", print).begin(OPENING)
