"""Score files on the workers of a Dask cluster, or of one that is started here.

    for result in score_on_cluster("tcp://10.0.0.5:8786", setup, proof, paths, workers=None, stop=stop):
        print(result.path, result.summary or result.error)

Dask gives the files of a worker that dies to others. A file whose workers die too often for Dask is scored again,
alone; one that kills these as well gets an error. The cluster holds no rows: each file's result is taken here, once.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any

from runtime import __version__
from runtime.card.model_card import card_path, sha256_file
from runtime.engines.model_loader import LoadedModel, find_model
from runtime.scan.remote import Sound
from runtime.scan.workers import AHEAD, POLL, Result, Setup, again_alone, file_state, score_here, signals_blocked
from runtime.support.errors import ShrikeError
from runtime.support.extras import DISTRIBUTION, require_package
from runtime.support.shutdown import Stop

LOCAL = "local"
CONNECTING = 20.0  # s until the scheduler answers
EMPTY = 300.0  # s without a worker: a cluster may still be starting them
GATHERING = 10.0  # s for a result to arrive; else Dask computes it again


@dataclass(frozen=True)
class Proof:
    """Everything in which a worker must agree with this process, or rows of one table would differ."""

    version: str
    card: str  # sha256
    backend: str


def prove(setup: Setup, model: LoadedModel) -> Proof:
    return Proof(__version__, sha256_file(card_path(find_model(setup.model))), model.backend)


def score_on_cluster(
    address: str, setup: Setup, model: LoadedModel, paths: Sequence[Sound], workers: int, stop: Stop
) -> Iterator[Result]:
    """Yield a result for each file, in order of completion; fewer if a stop is requested.

    `workers` are the processes of a local cluster.
    """
    proof = prove(setup, model)
    name = os.path.abspath(setup.model) if os.path.exists(setup.model) else setup.model
    setup = replace(setup, model=name, access=replace(setup.access, folder=os.getcwd()))
    with ExitStack() as stack:
        cluster = _Cluster(_connect(address, workers, stack), setup, proof, stop)
        yield from again_alone(cluster.run, paths, stop)


def _connect(address: str, workers: int, stack: ExitStack) -> Any:
    """Return a client; its cluster, if it is started here, ends with the stack."""
    distributed = require_package("distributed")
    for name in ("distributed", "distributed.client", "distributed.nanny"):  # its import has set them up
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if address == LOCAL:
        # A file that kills a worker kills few: it is scored alone at once, as on the processes of runtime.scan.workers.
        options = {"distributed.scheduler.allowed-failures": 0, "logging": {"distributed": "critical"}}
        stack.enter_context(require_package("dask").config.set(options))
        try:
            with signals_blocked():
                cluster = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
                )
        except RuntimeError as error:
            raise ShrikeError(f"--dask local: its processes did not start ({error}); is memory short?") from error
        stack.callback(cluster.close, timeout=5)
        return stack.enter_context(distributed.Client(cluster, set_as_default=False))
    try:
        client = distributed.Client(address, timeout=CONNECTING, set_as_default=False)
    except (OSError, ValueError, TypeError, distributed.TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else "no answer"
        raise ShrikeError(f"--dask {address}: expected a Dask scheduler there, or local ({reason})") from error
    stack.enter_context(client)
    try:  # a worker that cannot import a task's code ends itself: better to refuse it by name now
        found = {"the scheduler": client.run_on_scheduler(_version), **client.run(_version)}
    except Exception as error:
        raise ShrikeError(f"--dask {address}: its scheduler and workers need {DISTRIBUTION} ({error})") from error
    if other := {name: version for name, version in found.items() if version != __version__}:
        raise ShrikeError(f"--dask {address}: expected version {__version__}, found {other}")
    return client


def _version() -> str:
    return __version__


class _Cluster:
    def __init__(self, client: Any, setup: Setup, proof: Proof, stop: Stop) -> None:
        self._client, self._setup, self._proof, self._stop = client, setup, proof, stop
        self._seen = time.monotonic()  # the last time that there was a worker

    def run(self, waiting: deque[Sound], alone: bool) -> Generator[Result, None, list[Sound]]:
        """Score all files; return those whose workers died."""
        from distributed import KilledWorker, TimeoutError

        running: dict[Any, Sound] = {}
        ended = SimpleQueue[Any]()
        lost = list[Sound]()
        try:
            while (waiting or running) and not self._stop.requested:
                most = 1 if alone else max(1, AHEAD * self._threads())
                while waiting and len(running) < most:
                    path = waiting.popleft()
                    future = self._client.submit(_score, self._setup, self._proof, path, pure=False)
                    running[future] = path
                    future.add_done_callback(ended.put)
                try:
                    future = ended.get(timeout=POLL)
                except Empty:
                    continue
                try:
                    result = future.result(timeout=GATHERING)
                except TimeoutError:  # its worker died before the result was taken: Dask computes it again
                    ended.put(future)
                except KilledWorker:
                    lost.append(running.pop(future))
                except ShrikeError:
                    raise
                except Exception as error:
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    raise ShrikeError(f"--dask: the cluster failed ({reason}); the same command goes on") from error
                else:
                    path = running.pop(future)
                    size, modified = file_state(path)
                    yield replace(result, path=path, size=size, modified=modified)
        finally:
            self._client.cancel(list(running))
        return lost

    def _threads(self) -> int:
        """Count the threads of all workers."""
        try:
            count = sum(self._client.nthreads().values())
        except Exception as error:
            raise ShrikeError("--dask: the scheduler is gone; the same command goes on") from error
        self._seen = time.monotonic() if count else self._seen
        if time.monotonic() - self._seen > EMPTY:
            raise ShrikeError(f"--dask: the cluster has had no worker for {EMPTY:.0f} s; the same command goes on")
        return count


# ---------------------------------------------------------------- in a worker


def _score(setup: Setup, proof: Proof, path: Sound) -> Result:
    _check(setup, proof)
    return score_here(setup, path)


@cache
def _check(setup: Setup, proof: Proof) -> None:
    """Refuse to score with another model or version than the rows of the table."""
    model = setup.load()
    model.engine.close()
    here = prove(setup, model)
    if here != proof:
        raise ShrikeError(f"--dask: a worker has {here}, expected {proof}: install the same version and model there")
