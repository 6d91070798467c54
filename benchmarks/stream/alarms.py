"""False alarms per hour of real speech against fakes found and the time until found, over thresholds of --sure.

Streams of STREAM seconds (benchmarks.stream.mixture) run through the product's session at full speed, voice activity
included. Its scores are then judged again for each threshold, by the product's VerdictTracker.

    fake passage                 |---- fake ----|
    an alarm, the state spoof          |----------|
    begins in here: true         |-------------------|  the passage and one window after it; elsewhere: false
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.accuracy.trials import open_trials
from benchmarks.cases import Subject
from benchmarks.report import Cell, Measured, Plot, Report, Table, new_report
from benchmarks.report.plots import draw_trade
from benchmarks.stream.mixture import Clips, Turn, by_source, compose
from benchmarks.stream.realtime import ArraySource, VerdictList
from benchmarks.workers import spread
from runtime.audio.features import Samples
from runtime.audio.framer import Score
from runtime.card.model_card import ScoreMap, read_card
from runtime.card.schema import require
from runtime.engines.model_loader import LoadedModel, load_model
from runtime.multi_stream import open_framer
from runtime.session import Session, VerdictOptions
from runtime.support.shutdown import Stop
from runtime.verdict import WINDOW_VOICE, State, Verdict, VerdictTracker
from train.data.processes import cores
from train.evaluate.bootstrap import interval_of
from train.evaluate.metrics import Floats
from train.progress import Progress, say

if TYPE_CHECKING:
    from benchmarks.stream.__main__ import Options

STREAM = 300.0  # s of a stream at least
SURE = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999)  # thresholds
RESAMPLES = 1000  # of sources, for intervals

# A passage and, for each threshold, its false alarms, or the seconds until the fake was found; NaN: it was not.
TurnResult = tuple[Turn, Floats]


def report(options: "Options", subjects: Sequence[Subject], folder: Path) -> Report:
    """Every model over the same streams."""
    trials, hours, rows = open_trials(options.corpus, options.partition), options.hours or 1.0, list[dict[str, Cell]]()
    say(trials.describe())
    for subject in subjects:
        fitted = read_card(subject.path).score.fitted_on is not None
        require(fitted, f"{subject.model}: not calibrated, so that P(spoof) means nothing; export it with trials")
    for subject in subjects:
        jobs = 1 if subject.form.startswith("TensorRT") else options.workers or cores()
        found = raise_alarms(subject.path, by_source(trials), hours, options.seed, jobs, options.step, subject.model)
        rows += alarm_rows(found, subject.model, options.seed)
    draw_trade(rows, folder / "alarms.png")
    conditions = {"hours": hours, "seed": options.seed, "trials": trials.describe(), "trials sha256": trials.identity()}
    return new_report(
        "alarms", f"Alarms on {trials.name}", conditions, [budget_table(rows, options.budget), alarm_table(rows)],
        ["Figures of one corpus do not transfer to another."],
        [Plot("alarms.png", "Fakes found against false alarms; a point for each threshold of --sure.")],
    )  # fmt: skip


# ---- measuring


def raise_alarms(
    path: Path, clips: Clips, hours: float, seed: int, jobs: int, step: int | None = None, title: str = "alarms"
) -> list[TurnResult]:
    """Run so many hours of streams through a model."""
    count = max(1, round(3600 * hours / STREAM))
    work = partial(open_streams, path, clips, STREAM, seed, step)
    results: dict[int, list[TurnResult]] = {}
    with (
        Progress(title, count, f"streams of {STREAM / 60:g} min") as bar,
        closing(spread(work, range(count), jobs, "scored streams")) as finished,
    ):
        for number, found in finished:
            results[number] = found
            bar.advance()
    return [result for number in range(count) for result in results[number]]


def open_streams(
    path: Path, clips: Clips, seconds: float, seed: int, step: int | None
) -> Callable[[int], list[TurnResult]]:
    """A function that composes and scores the stream of a number, and judges it for each threshold."""
    model = load_model(path, "auto")
    framer = open_framer(model.engine, model.card.frontend, step)

    def run(number: int) -> list[TurnResult]:
        samples, passages = compose(clips, seconds, seed, number)
        with Stop() as stop:
            verdicts = verdicts_of(model, samples, stop, step)
            if stop.requested:
                raise KeyboardInterrupt
        times, score_map = [verdict.time for verdict in verdicts], model.card.score
        judged = [states(verdicts, score_map, framer.interval, sure) for sure in SURE]
        values = [judge(times, found, passages, model.card.frontend.seconds) for found in judged]
        return list(zip(passages, np.array(values).T, strict=True))

    return run


def verdicts_of(model: LoadedModel, samples: Samples, stop: Stop, step: int | None = None) -> list[Verdict]:
    """All verdicts of the product's session over samples (n,)."""
    recorder = VerdictList()
    session = Session(model, [recorder], VerdictOptions(step=step))
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
        found.append(tracker.update(score, verdict.quality, verdict.voiced, total).state)
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


# ---- tables


def alarm_rows(results: Sequence[TurnResult], model: str, seed: int) -> list[dict[str, Cell]]:
    """A row for each threshold; intervals at 95 % resample sources and systems."""
    (real, alarms), (fakes, waits) = (
        ([turn for turn, _ in results if turn.fake == fake], [values for turn, values in results if turn.fake == fake])
        for fake in (False, True)
    )
    hours, rows = np.array([turn.speech / 3600 for turn in real]), list[dict[str, Cell]]()
    for place, sure in enumerate(SURE):
        until, raised = np.array([values[place] for values in waits]), np.array([values[place] for values in alarms])
        found = until[~np.isnan(until)]
        rows.append({
            "model": model, "sure": f"{sure:g}", "false alarms": _ratio(raised, hours, real, seed),
            "found": _ratio(100.0 * ~np.isnan(until), np.ones(len(fakes)), fakes, seed),
            "until found": float(np.median(found)) if len(found) else None,
            "until found p90": float(np.percentile(found, 90)) if len(found) else None,
            "real passages": len(real), "fake passages": len(fakes), "real speech": float(hours.sum()),
        })  # fmt: skip
    return rows


def _ratio(values: Floats, weights: Floats, turns: Sequence[Turn], seed: int) -> Measured:
    """Sum of values over sum of weights, with its interval over sources."""
    names, unit = np.unique(np.array([turn.source for turn in turns]), return_inverse=True)
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
    chosen: dict[Cell, dict[str, Cell]] = {row["model"]: {"model": row["model"], "budget": budget} for row in rows}
    for row in rows[::-1]:
        if isinstance(rate := row["false alarms"], Measured) and rate.value <= budget:
            chosen[row["model"]] |= {key: row[key] for key in ("sure", "false alarms", "found", "until found")}
    columns = (
        "model*; budget, false alarms per hour; sure; false alarms, per hour of real speech < .2; found, % > .1; "
        "until found, s < .1"
    )
    about = "The lowest threshold whose measured rate keeps the budget; its interval may reach beyond."
    return Table.of("sure", "--sure for a budget of false alarms", about, columns, chosen.values())
