"""Score uploads in child processes with limits of memory and time: a hostile file can end one of them, nothing else.

    pool = UploadPool(UploadSetup({"accurate": "accurate"}, Options()), "accurate")
    scored = pool.score(descriptor, Job("call.wav", "accurate"))
    scored.summary, scored.lines                     # JSON lines, as those of shrike scan and shrike stream --json
    pool.close()

An upload is a file in memory (memfd); a child gets its descriptor. Messages are JSON both ways: a child that a hostile
file controls cannot make this process unpickle anything. A child that dies or exceeds its time is replaced.
"""

import io
import json
import multiprocessing
import os
import queue
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

from runtime.audio.channels import Channel
from runtime.audio.features import Samples
from runtime.engines import EngineAwayError
from runtime.engines.model_loader import LoadedModel, find_model, load_model
from runtime.scan.workers import covering, end_with_parent
from runtime.serve.options import Options
from runtime.session import Session
from runtime.sinks import Sink, StreamInfo
from runtime.sinks.jsonl import JsonLines
from runtime.sources.file import open_channels
from runtime.summary import Summary, worst
from runtime.support.errors import ShrikeError, say
from runtime.support.shutdown import Stop

MEMORY = 2**30  # bytes of address space that decoding and scoring of a file may need
STARTING = 120.0  # s in which a child must have loaded its model
LONGEST = 300.0  # s of computing for one upload
LARGEST = 2**26  # bytes of an answer
NOT_STARTED = "the process that scores files could not be started: try again later"
DIED = "the process that scored the file was ended: is the file damaged, or does it need more than 1 GiB of memory?"


@dataclass(frozen=True)
class UploadSetup:
    """Model files by the names that clients use, and options of a child."""

    models: dict[str, str]
    options: Options

    def open(self, name: str) -> LoadedModel:
        """Open the model that clients call by this name, here or on the Triton server."""
        path, options = find_model(self.models[name]), self.options
        if options.triton_url:
            from runtime.serve.triton import load_triton

            return load_triton(options.triton_url, name, path)
        return load_model(path, options.engine, options.threads, options.provider)


@dataclass(frozen=True)
class Job:
    """One upload."""

    name: str  # in the answer
    model: str
    channel: Channel | None = None


@dataclass(frozen=True)
class Scored:
    """JSON lines of all verdicts, and of the summary: of several channels, of the worst."""

    lines: str
    summary: str
    state: str


class UploadPool:
    """Child processes that score one upload at a time each."""

    def __init__(self, setup: UploadSetup, first: str) -> None:
        """`first`: the model that every child loads at its start. Waits for that."""
        self._setup, self._first = setup, first
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()  # None: one that could not be started
        self._children, self._lock, self._closed = set[_Child](), threading.Lock(), False
        for child in [self._start() for _ in range(setup.options.workers)]:
            child.wait_until_ready()
            self._idle.put(child)

    def _start(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise ShrikeError(NOT_STARTED)
            child = _Child(self._setup, self._first)
            self._children = {one for one in self._children if one.alive} | {child}
            return child

    def score(self, descriptor: int, job: Job) -> Scored:
        """Score the file behind a descriptor; waits for an idle child. ShrikeError with the reason if it cannot."""
        child = self._idle.get()
        try:
            if child is None:
                child = self._start()
            return child.score(descriptor, job)
        except OSError as error:
            say(f"error: a process for uploads cannot be started ({error})")
            raise ShrikeError(NOT_STARTED) from error
        finally:
            if child is not None and not child.alive:
                child = None
                with suppress(ShrikeError, OSError):
                    child = self._start()  # loads its model until the next upload
            self._idle.put(child)

    def close(self) -> None:
        """End all children, those at work too: their files get an error."""
        with self._lock:
            self._closed = True
        for child in self._children:
            child.end()


class _Child:
    def __init__(self, setup: UploadSetup, first: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, setup, first), daemon=True)
        self._process.start()
        theirs.close()
        self._ready, self.alive = False, True

    def wait_until_ready(self) -> None:
        if not self._ready:
            try:
                self._receive(STARTING)
            except ShrikeError:
                self.kill()
                raise
            self._ready = True

    def score(self, descriptor: int, job: Job) -> Scored:
        try:
            self.wait_until_ready()
        except EngineAwayError:
            raise
        except ShrikeError as error:
            say(f"error: a process for uploads did not start: {error}")
            raise ShrikeError(NOT_STARTED) from error
        assert self._process.pid
        try:
            self._connection.send_bytes(json.dumps(asdict(job)).encode())
            send_handle(self._connection, descriptor, self._process.pid)
        except OSError:
            self.kill()
            raise ShrikeError(DIED) from None
        answer = self._receive(LONGEST)
        return Scored(str(answer["lines"]), str(answer["summary"]), str(answer["state"]))

    def _receive(self, seconds: float) -> dict[str, str]:
        try:
            if not self._connection.poll(seconds):
                self.kill()
                raise ShrikeError(f"the file took more than {seconds:.0f} s to score: send a shorter one")
            answer: dict[str, str] = json.loads(self._connection.recv_bytes(LARGEST))
        except (EOFError, OSError, ValueError):
            self.kill()
            raise ShrikeError(DIED) from None
        if "away" in answer:
            raise EngineAwayError(str(answer["away"]))
        if "error" in answer:
            raise ShrikeError(str(answer["error"]))
        return answer

    def end(self) -> None:
        """Kill the process; a thread that waits for its answer gets an error and closes the rest."""
        self._process.kill()

    def kill(self) -> None:
        self.alive = False
        self._process.kill()
        self._process.join(5.0)
        self._connection.close()


# ---------------------------------------------------------------- in a child


def _serve(connection: Connection, setup: UploadSetup, first: str) -> None:
    """Score files until the parent process ends."""
    opened: dict[str, LoadedModel] = {}

    def find(name: str) -> LoadedModel:
        if name not in opened:
            opened[name] = setup.open(name)
        return opened[name]

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to handle
    stop = Stop()
    _answer(connection, lambda: {"ready": find(first).card.name})
    _limit(resource.RLIMIT_AS, _address_space() + MEMORY)
    _limit(resource.RLIMIT_FSIZE, 0)  # nothing reaches a disk
    _limit(resource.RLIMIT_CORE, 0)
    while True:
        try:
            job = Job(**json.loads(connection.recv_bytes()))
            descriptor = recv_handle(connection)
        except (EOFError, OSError):
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + LONGEST) + 1)
        try:
            _answer(connection, lambda: _score(find(job.model), setup, job, descriptor, stop))  # noqa: B023
        finally:
            os.close(descriptor)


def _answer(connection: Connection, work: Callable[[], dict[str, str]]) -> None:
    try:
        answer = work()
    except EngineAwayError as error:
        answer = {"away": str(error)}
    except ShrikeError as error:
        answer = {"error": " ".join(str(error).split())}
    except MemoryError:
        answer = {"error": "the file needs more memory than an upload may use"}
    connection.send_bytes(json.dumps(answer).encode())


def _score(model: LoadedModel, setup: UploadSetup, job: Job, descriptor: int, stop: Stop) -> dict[str, str]:
    path, box, summaries = f"/proc/{os.getpid()}/fd/{descriptor}", io.StringIO(), list[Summary]()
    verdicts = covering(model, prior=setup.options.prior, sure=setup.options.sure)
    try:
        sources = open_channels(path, model.card.frontend.rate, stop, wanted=job.channel)
        lines = JsonLines(box, named=len(sources) > 1)
        limit = _LengthLimit(setup.options.max_seconds)
        session = Session(model, [limit, lines], verdicts)
        for source in sources:
            source.name = job.name
            with closing(source):
                summaries.append(session.run(source, stop))
        if len(summaries) > 1:
            lines.file(worst(summaries), len(summaries))
    except ShrikeError as error:  # the client knows its own name of the file
        raise ShrikeError(str(error).replace(f"{path}: ", "").replace(path, job.name)) from error
    summary = io.StringIO()
    JsonLines(summary).end(worst(summaries))
    return {"lines": box.getvalue(), "summary": summary.getvalue(), "state": worst(summaries).state}


class _LengthLimit(Sink):
    """Refuses sound beyond a duration, before it is scored."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def begin(self, info: StreamInfo) -> None:
        self._left = self._seconds * info.rate

    def sound(self, samples: Samples) -> None:
        self._left -= len(samples)
        if self._left < 0:
            raise ShrikeError(f"longer than {self._seconds:,.0f} s: send a shorter part")


def _limit(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
