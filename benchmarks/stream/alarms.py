"""False alarms per hour of real speech against fakes found and the time until found, over thresholds of --sure.

    found = raise_alarms(model_path, clips, hours=2.0, seed=0, jobs=2)
    found.table("edge", seed=0), found.choose(budget=1.0)

Streams of STREAM seconds (benchmarks.stream.mixture) run through the product's session at full speed, voice activity
included. Its scores are then judged again for each threshold, by the product's VerdictTracker.

    fake passage                 |---- fake ----|
    an alarm, the state spoof          |----------|
    begins in here: true         |-------------------|  the passage and one window after it; elsewhere: false
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.report import Cell, Measured, Table
from benchmarks.stream.mixture import Clips, Turn, compose
from runtime.audio.features import Samples
from runtime.audio.framer import Score
from runtime.card.model_card import ScoreMap
from runtime.card.schema import require
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sources import Block
from runtime.sources.file import paced
from runtime.support.shutdown import Stop
from runtime.verdict import WINDOW_VOICE, State, Verdict, VerdictTracker, Voice
from train.data.processes import in_processes
from train.evaluate.bootstrap import interval_of
from train.evaluate.metrics import Floats
from train.progress import Progress

STREAM = 300.0  # s of a stream at least
SURE = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)  # thresholds
RESAMPLES = 1000  # of sources, for intervals


@dataclass(frozen=True)
class TurnResult:
    """A passage and, for each threshold, its false alarms, or the seconds until the fake was found; NaN: it was not."""

    passage: Turn
    by_sure: Floats  # (thresholds,)


class VerdictList(Sink):
    """Keeps every verdict."""

    def __init__(self) -> None:
        self.verdicts = list[Verdict]()

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        small = replace(verdict.quality, spectrum=np.empty(0))
        self.verdicts.append(replace(verdict, quality=small))


class ArraySource:
    """An array as a source."""

    name, live = "mixture", False

    def __init__(self, samples: Samples, rate: int, stop: Stop) -> None:
        self._samples, self._rate, self._stop = samples, rate, stop

    def __iter__(self) -> Iterator[Block]:
        return paced(self._samples, self._rate, self._stop, live=False)

    def close(self) -> None:
        """Hold nothing."""


def verdicts_of(model: LoadedModel, samples: Samples, stop: Stop, step: int | None = None) -> list[Verdict]:
    """All verdicts of the product's session over samples (n,)."""
    recorder = VerdictList()
    session = Session(model.engine, model.card, [recorder], VerdictOptions(step=step), model.backend)
    session.run(ArraySource(samples, model.card.frontend.rate, stop), stop)
    return recorder.verdicts


def states(verdicts: Sequence[Verdict], score_map: ScoreMap, interval: float, sure: float) -> list[State]:
    """The states that these verdicts have with another threshold, by the product's tracker."""
    tracker, before, total, found = VerdictTracker(score_map, interval, sure=sure), 0.0, 0.0, list[State]()
    for verdict in verdicts:
        if verdict.voiced < WINDOW_VOICE:
            before = total  # the tracker starts anew
        total = before + verdict.spoken
        value = float("nan") if verdict.score is None else verdict.score
        score = Score(verdict.time, value, 0, verdict.state == "warming-up")
        found.append(tracker.update(score, verdict.quality, Voice(verdict.voiced, total)).state)
    return found


def judge(times: Sequence[float], found: Sequence[State], passages: Sequence[Turn], window: float) -> Floats:
    """Of each passage (n,): false alarms of a real one, seconds until a fake was found or NaN.

    A false alarm in a pause counts for the last real passage before it.
    """
    values = np.array([np.nan if passage.fake else 0.0 for passage in passages])
    real = [place for place, passage in enumerate(passages) if not passage.fake]
    before: State = "no-voice"
    for time, state in zip(times, found, strict=True):
        if state == "spoof":
            inside = [n for n, one in enumerate(passages) if one.fake and one.start <= time <= one.end + window]
            for place in inside:
                values[place] = np.nanmin([values[place], time - passages[place].start])
            if before != "spoof" and not inside and real:
                values[max((place for place in real if passages[place].start <= time), default=real[0])] += 1
        before = state
    return values


@dataclass(frozen=True)
class Alarms:
    """The result of one model."""

    results: tuple[TurnResult, ...]

    def _of(self, fake: bool) -> tuple[list[Turn], Floats, list[str]]:
        mine = [one for one in self.results if one.passage.fake == fake]
        values = np.array([one.by_sure for one in mine]).reshape(len(mine), len(SURE))
        return [one.passage for one in mine], values, [one.passage.source for one in mine]

    def rows(self, model: str, seed: int) -> list[dict[str, Cell]]:
        """A row for each threshold; intervals at 95 % resample sources and systems."""
        real, alarms, sources = self._of(False)
        fakes, waits, systems = self._of(True)
        hours = np.array([passage.speech / 3600 for passage in real])
        rows = list[dict[str, Cell]]()
        for place, sure in enumerate(SURE):
            missed = np.isnan(waits[:, place])
            found = np.sort(waits[~missed, place])
            row: dict[str, Cell] = {
                "model": model, "sure": f"{sure:g}",
                "false alarms": _ratio(alarms[:, place], hours, sources, seed),
                "found": _ratio(100.0 * ~missed, np.ones(len(fakes)), systems, seed),
                "until found": float(np.median(found)) if len(found) else None,
                "until found p90": float(np.percentile(found, 90)) if len(found) else None,
                "real passages": len(real), "fake passages": len(fakes), "real speech": float(hours.sum()),
            }  # fmt: skip
            rows.append(row)
        return rows


def _ratio(values: Floats, weights: Floats, groups: Sequence[str], seed: int) -> Measured:
    """Sum of values over sum of weights, with its interval over groups."""
    names, unit = np.unique(np.array(groups), return_inverse=True)
    top, bottom = (np.bincount(unit, part, len(names)) for part in (values, weights))
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return Measured(float(values.sum() / weights.sum()), *interval_of((drawn @ top) / (drawn @ bottom)))


def alarm_table(rows: Sequence[dict[str, Cell]]) -> Table:
    columns = (
        "model*; sure*; false alarms, per hour of real speech < .2; found, % > .1; until found, s < .1; "
        "until found p90, s < .1; real passages; fake passages; real speech, h .2"
    )
    about = (
        "An alarm: the state becomes spoof. found: fake passages with that state from their start to one window after "
        "their end. until found: median and 90th percentile over those. Intervals resample sources and systems."
    )
    return Table.of("alarms", "Alarms", about, columns, rows)


def budget_table(rows: Sequence[dict[str, Cell]], budget: float) -> Table:
    """Of each model the lowest threshold that keeps the budget; no threshold where none does."""
    chosen = list[dict[str, Cell]]()
    for model in dict.fromkeys(str(row["model"]) for row in rows):
        keeping = [row for row in rows if row["model"] == model and _value(row["false alarms"]) <= budget]
        names = ("sure", "false alarms", "found", "until found")
        row: dict[str, Cell] = {"model": model, "budget": budget}
        chosen.append(row | ({key: keeping[0][key] for key in names} if keeping else {}))
    columns = (
        "model*; budget, false alarms per hour; sure; false alarms, per hour of real speech < .2; found, % > .1; "
        "until found, s < .1"
    )
    about = "The lowest threshold whose measured rate keeps the budget; its interval may reach beyond."
    return Table.of("sure", "--sure for a budget of false alarms", about, columns, chosen)


def _value(cell: Cell) -> float:
    assert isinstance(cell, Measured)
    return cell.value


def raise_alarms(
    path: Path, clips: Clips, hours: float, seed: int, jobs: int, step: int | None = None, title: str = "alarms"
) -> Alarms:
    """Run so many hours of streams through a model."""
    count = max(1, round(3600 * hours / STREAM))
    work = _Worker(path, clips, STREAM, seed, step)
    results: dict[int, list[TurnResult]] = {}
    with Progress(title, count, f"streams of {STREAM / 60:g} min") as bar:
        if jobs == 1:
            for number in range(count):
                results[number] = work.run(number)
                bar.advance()
        else:
            with closing(in_processes(_run, range(count), jobs, "scored streams", _begin, (work,))) as finished:
                for number, found in finished:
                    results[number] = found
                    bar.advance()
    return Alarms(tuple(one for number in range(count) for one in results[number]))


class _Worker:
    """Model and clips of one process; the model is opened at the first stream."""

    def __init__(self, path: Path, clips: Clips, seconds: float, seed: int, step: int | None) -> None:
        self._path, self._clips, self._seconds, self._seed, self._step = path, clips, seconds, seed, step
        self._model: LoadedModel | None = None

    def run(self, number: int) -> list[TurnResult]:
        """Compose and score one stream, and judge it for each threshold."""
        self._model = model = self._model or load_model(self._path, "auto")
        samples, passages = compose(self._clips, self._seconds, self._seed, number)
        with Stop() as stop:
            verdicts = verdicts_of(model, samples, stop, self._step)
            if stop.requested:
                raise KeyboardInterrupt
        times, frontend = [verdict.time for verdict in verdicts], model.card.frontend
        interval = (self._step or _step(model)) * frontend.hop / frontend.rate
        values = [
            judge(times, states(verdicts, model.card.score, interval, sure), passages, frontend.seconds)
            for sure in SURE
        ]
        return [TurnResult(passage, column) for passage, column in zip(passages, np.array(values).T, strict=True)]


def _step(model: LoadedModel) -> int:
    from runtime.scorer import open_framer

    return open_framer(model.engine, model.card.frontend).step


_worker: list[_Worker] = []


def _begin(work: _Worker) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    _worker[:] = [work]


def _run(number: int) -> list[TurnResult]:
    return _worker[0].run(number)


def check_calibrated(model: LoadedModel, name: str) -> None:
    """P(spoof) needs a score map."""
    require(
        model.card.score.fitted_on is not None,
        f"{name}: not calibrated, so that P(spoof) means nothing; export it with trials for the score map",
    )
