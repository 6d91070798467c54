"""Log on stderr: sentences, and one progress bar at a time, which becomes plain lines without a terminal."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)
LINE_EVERY = 30.0  # seconds between plain lines when stderr is a file or a pipe


def say(sentence: str) -> None:
    """Print one line on stderr."""
    CONSOLE.print(sentence, markup=False)


class Progress:
    """A progress bar: with Progress("epoch 3", 40, "batches") as bar: bar.advance(1, "loss 0.31")."""

    def __init__(self, title: str, total: int, unit: str, silent: bool = False) -> None:
        self.title, self.total, self.unit, self.silent = title, total, unit, silent
        self.done, self._began, self._printed = 0, time.monotonic(), time.monotonic()
        self._bar: RichProgress | None = None

    def __enter__(self) -> "Progress":
        if CONSOLE.is_terminal and not self.silent:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(self.unit),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=CONSOLE,
                transient=True,
            )
            self._task = self._bar.add_task(self.title, total=self.total, note="")
            self._bar.start()
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        if self._bar:
            self._bar.update(self._task, advance=count, note=note)
        elif not self.silent and time.monotonic() - self._printed > LINE_EVERY:
            self._printed = time.monotonic()
            left = (self._printed - self._began) * (self.total - self.done) / max(1, self.done)
            say(f"{self.title}: {self.done:,} of {self.total:,} {self.unit}, {left:.0f} s left {note}".rstrip())

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        sys.stderr.flush()
