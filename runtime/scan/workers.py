"""Score files in this process, or in worker processes that load the model once each.

    for result in score_files(setup, paths, workers=4, stop=stop):
        print(result.path, result.summary or result.error)

A worker may die: killed for its memory, or by a file that crashes a decoder. Files that were in work then are scored
again, one at a time in a worker of their own; one whose worker dies again gets an error.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import resource_tracker
from pathlib import Path

from runtime.audio.channels import Channel
from runtime.engines import as_streaming
from runtime.engines.model_loader import Kind, LoadedModel, find_model, load_model
from runtime.scan.remote import DEFAULT_ACCESS, FileAccess, Remote, Sound, local_file
from runtime.session import Session, VerdictOptions
from runtime.sources.file import open_channels
from runtime.summary import Summary, worst
from runtime.support.errors import ShrikeError, printable
from runtime.support.shutdown import Stop

POLL = 0.2  # s between checks for the request to stop
EVERY = 2.5  # s between the ends of two windows
AHEAD = 2  # files submitted per worker: one that is scored, one that waits
DIED = "the process that scored it was killed twice: is memory short, or does the file crash its decoder?"


@dataclass(frozen=True)
class Setup:
    """Model and verdict options that a worker needs."""

    model: str
    engine: Kind
    provider: str
    verdicts: VerdictOptions
    channel: Channel | None = None  # None: each of two channels that differ, else their mix
    threads: int = 1
    access: FileAccess = DEFAULT_ACCESS

    def load(self) -> LoadedModel:
        return load_model(find_model(self.model), self.engine, self.threads, self.provider)

    def session(self, model: LoadedModel) -> Session:
        """Return a session that scores one file after another."""
        return Session(model, [], self.verdicts)


@dataclass(frozen=True)
class Result:
    """One file's summary, or the reason why there is none."""

    path: Sound
    size: int  # bytes, -1 where the file is gone
    modified: int  # ns since 1970
    summary: Summary | None = None
    error: str = ""


def covering(model: LoadedModel, every: float = EVERY, prior: float = 0.5, sure: float | None = None) -> VerdictOptions:
    """Return the verdict options of a scan: `every` seconds in frames, of a streaming model in its steps."""
    frontend, streaming = model.card.frontend, as_streaming(model.engine)
    most = frontend.width * frontend.hop / frontend.rate
    if not 0 < every <= most:
        raise ShrikeError(f"--every {every}: expected more than 0 and at most {most:.2f} seconds")
    unit = streaming.state.frames if streaming else 1
    steps = every * frontend.rate / frontend.hop / unit
    step = unit * max(1, min(round(steps), frontend.width // unit))
    return VerdictOptions(step, prior, 0.0, sure, cover=True)


def file_state(path: Sound) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns; -1 and 0 where the file is gone."""
    if isinstance(path, Remote):
        return path.size, path.modified
    try:
        status = path.stat()
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def score_file(session: Session, path: Sound, rate: int, stop: Stop, setup: Setup) -> Result:
    """Score one file to its end; of several channels the worst counts."""
    name, folder = printable(os.fspath(path)), setup.access.folder
    state = file_state(Path(folder, path) if isinstance(path, Path) else path)
    copy: Sound = path
    try:
        summaries = list[Summary]()
        with local_file(path, setup.access) as copy:
            for source in open_channels(copy, rate, stop, wanted=setup.channel):
                with closing(source):
                    source.name = name
                    summaries.append(session.run(source, stop))
        return Result(path, *state, worst(summaries))
    except ShrikeError as error:
        reason = " ".join(str(error).split())
        for prefix in (name, printable(os.fspath(copy))):
            reason = reason.removeprefix(f"{prefix}: ")
        return Result(path, *state, error=reason)


def score_files(setup: Setup, model: LoadedModel, paths: Sequence[Sound], workers: int, stop: Stop) -> Iterator[Result]:
    """Yield a result for each file, in order of completion; fewer if a stop is requested."""
    if workers > 1:
        yield from again_alone(lambda waiting, alone: _run(setup, waiting, 1 if alone else workers, stop), paths, stop)
        return
    session = setup.session(model)
    for path in paths:
        result = score_file(session, path, model.card.frontend.rate, stop, setup)
        if stop.requested:  # it may have ended early
            return
        yield result


# ---------------------------------------------------------------- in a worker


@cache
def _open(setup: Setup, thread: int) -> tuple[Session, int, Stop]:
    """Load the model, once for each thread that scores: a session holds the state of its stream."""
    model = setup.load()
    return setup.session(model), model.card.frontend.rate, Stop()


def score_here(setup: Setup, path: Sound) -> Result:
    """Score a file with the model of this thread."""
    session, rate, stop = _open(setup, threading.get_ident())
    return score_file(session, path, rate, stop, setup)


def end_with_parent() -> None:
    """End this process when its parent is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---------------------------------------------------------------- in the parent


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals of a terminal: threads and processes that start meanwhile inherit that."""
    resource_tracker.ensure_running()  # its start, with the first process, would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def again_alone(
    run: Callable[[deque[Sound], bool], Generator[Result, None, list[Sound]]], paths: Sequence[Sound], stop: Stop
) -> Iterator[Result]:
    """Yield the results of `run(files, alone)`. It returns those whose workers died: they are scored again, alone."""
    waiting, suspects = deque(paths), deque[Sound]()
    while (waiting or suspects) and not stop.requested:
        if suspects:
            path = suspects.popleft()
            if (yield from run(deque([path]), True)) and not stop.requested:
                yield Result(path, *file_state(path), error=DIED)
        else:
            suspects.extend((yield from run(waiting, False)))


def _run(setup: Setup, waiting: deque[Sound], workers: int, stop: Stop) -> Generator[Result, None, list[Sound]]:
    """Score until none waits or a worker dies; return the files that were being scored then."""
    running: dict[Future[Result], Sound] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        try:
            while (waiting or running) and not stop.requested:
                while waiting and len(running) < AHEAD * workers:
                    with signals_blocked():  # a worker that starts here inherits that: the parent handles Ctrl-C
                        future = pool.submit(score_here, setup, waiting[0])  # raises where a worker has died
                    running[future] = waiting.popleft()
                for future in wait(running, POLL, FIRST_COMPLETED).done:
                    result = future.result()
                    del running[future]
                    yield result
        except BrokenProcessPool:
            pass
        finally:
            if running:
                for process in multiprocessing.active_children():
                    process.terminate()
    return list(running.values())
