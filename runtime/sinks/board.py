"""Live view of several streams on a terminal: a line for each, the newest notes below.

    SPOOF        0.86  LLR  -1.83  -23 dBFS  ------------O---  0:02:13  call-1.wav
    bonafide     0.12  LLR  +2.10  -31 dBFS  --O-------------  0:02:13  call-2.wav  ! clipping
    3 streams, f0 with ONNX Runtime, Ctrl-C ends

    board = Board()
    session = Session(model, [board.line()], options, batcher)

Redrawn REDRAWN times a second. Streams beyond the terminal's height are counted; spoofs are shown first.
"""

import time
from typing import Any

from runtime.audio.features import Samples
from runtime.audio.quality import FLAGS
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.lines import numbers
from runtime.sinks.meter import REDRAWN, STILL, STYLES, LiveView, elapsed, pointer
from runtime.summary import Summary, plural
from runtime.verdict import Verdict

BAR = 16  # columns of the bar between real and fake
ORDER = {"spoof": 0, "unsure": 1, "bonafide": 2, "warming-up": 3, "too-short": 4, "no-voice": 5}


class Board(LiveView):
    """The view; the line of each stream is a sink."""

    def __init__(self, console: Any = None) -> None:
        super().__init__(console)
        self._lines: list[BoardLine] = []

    def line(self) -> "BoardLine":
        """Return a sink for one more stream."""
        line = BoardLine(self)
        self._lines.append(line)
        return line

    def begin(self) -> None:
        self._live.start()

    def leave(self, line: "BoardLine", sentence: str) -> None:
        """Remove the line of a stream that has ended, and print its summary above the view."""
        self._lines.remove(line)
        self._console.print(sentence, markup=False)
        if not self._lines:
            self._live.stop()

    def view(self, width: int) -> Any:
        """Return the view as rich text, as high as the terminal at most."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="crop")
        room = max(1, self._console.height - len(self._notes) - 2)
        lines = [line for line in self._lines if line.info]
        if len(lines) > room:
            lines.sort(key=lambda line: ORDER[line.newest.state] if line.newest else len(ORDER))
        for line in lines[:room]:
            words, style = line.words()
            text.append(f"{words[:width]}\n", style)
        for note in self._notes:
            text.append(f"{note[:width]}\n", "dim")
        hidden = f" ({len(lines) - room} not shown)" if len(lines) > room else ""
        info = lines[0].info if lines else None
        model = f", {info.model} with {info.engine}" if info else ""
        text.append(f"{plural(len(lines), 'stream')}{hidden}{model}, Ctrl-C ends", "dim")
        return text


class BoardLine(Sink):
    """The line of one stream."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.info: StreamInfo | None = None
        self.newest: Verdict | None = None
        self._last_sound = 0.0

    def begin(self, info: StreamInfo) -> None:
        self.info, self._began = info, time.monotonic()
        self._last_sound = self._began
        self._board.begin()

    def sound(self, samples: Samples) -> None:
        if len(samples):
            self._last_sound = time.monotonic()
        self._board.draw(1 / REDRAWN)

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self.newest = verdict

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self.note(f"{lost:.2f} s of sound lost{'; the window was reset' if restarted else ''}")

    def note(self, text: str) -> None:
        assert self.info is not None
        self._board.note(f"{self.info.label}: {text}")

    def end(self, summary: Summary) -> None:
        self._board.leave(self, summary.line())

    def close(self) -> None:
        self._board.close()

    def words(self) -> tuple[str, str]:
        """Return the text of the line and its style; SPOOF is in capitals, for terminals without colour."""
        assert self.info is not None
        clock = elapsed(time.monotonic() - self._began)
        newest = self.newest
        if newest is None:
            text, state, flags = "listening" + " " * (26 + BAR), "", []
        else:
            state = newest.state
            word = state.upper() if state == "spoof" else state
            text = (
                f"{word:<11}  {numbers(newest)[len('P(spoof) ') :]}  "
                f"{newest.quality.level:4.0f} dBFS  {pointer(newest.p_spoof, BAR)}"
            )
            flags = [flag for flag in newest.quality.flags if flag in FLAGS]
        still = time.monotonic() - self._last_sound
        signs = [*flags, *([f"no sound for {still:.0f} s"] if still > STILL else [])]
        marks = f"  ! {', '.join(signs)}" if signs else ""
        return f"{text}  {clock}  {self.info.label}{marks}", STYLES.get(state, "")
