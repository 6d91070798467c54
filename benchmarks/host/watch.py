"""What a run did to the machine: heat, throttling, load, and the energy it took beyond an idle machine's.

    with Watch(idle_s=5) as watch:
        for window in windows:
            engine(window)
    watch.energy_per(len(windows))     # J, or "not measured, because ..."
    watch.report()                     # everything, for a report's JSON
    print("\\n".join(watch.rows()))     # the same in a few Markdown rows

Where power can be read, entering the block takes `idle_s` first. What is sampled there, sampling included, is what
an idle machine takes; it is subtracted from the run. The difference holds what a battery would notice.

    entering                           | the block                  | leaving
    idle_s, sampled; heat, load, ...   | sampled every interval_s   | the last reading; heat, load, ...
"""

import math
import statistics
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from benchmarks.host import system, thermal
from benchmarks.host.machine import UNKNOWN, Machine, NotMeasured, fact
from benchmarks.host.power import PowerSource, Reading, Watts, find_power

IDLE = 5.0  # s; shorter ones catch a governor that has not calmed down yet
INTERVAL = 0.1  # s: an INA3221 averages over about as long, and reading it costs a few ms of one core
FEWEST = 3  # readings of a phase below which its mean says nothing


@dataclass
class Phase:
    """Idle or run: what has flowed, and how the total moved."""

    seconds: float = 0.0
    joules: Watts = field(default_factory=dict)  # of every rail
    total: float = 0.0  # J
    readings: list[float] = field(default_factory=list)  # W, the total's

    def add(self, reading: Reading, total: float) -> None:
        self.seconds += reading.seconds
        self.total += total * reading.seconds
        self.readings.append(total)
        for name, value in reading.watts.items():
            self.joules[name] = self.joules.get(name, 0.0) + value * reading.seconds

    @property
    def deviation(self) -> float:
        """W, of single readings."""
        return statistics.stdev(self.readings) if len(self.readings) > 1 else 0.0

    @property
    def variance_of_mean(self) -> float:
        return self.deviation**2 / len(self.readings)

    def summary(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 3),
            "readings": len(self.readings),
            "watts": round(self.total / self.seconds, 4),
            "watts_deviation": round(self.deviation, 4),
            "joules": round(self.total, 4),
            "rails_watts": {name: round(value / self.seconds, 4) for name, value in self.joules.items()},
        }


class Sampler:
    """A thread that asks a source again and again, and splits what flowed into phases."""

    def __init__(self, source: PowerSource, interval: float) -> None:
        self._source, self._interval = source, interval
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._phase, self.failure = Phase(), ""
        self._thread = threading.Thread(target=self._work, name="power", daemon=True)

    def begin(self) -> None:
        self._source.read()  # what flowed before is nobody's
        self._thread.start()

    def next_phase(self) -> Phase:
        """Closes the phase that runs with a reading of its own."""
        with self._lock:
            self._take()
            done, self._phase = self._phase, Phase()
        return done

    def end(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._source.end()

    def _work(self) -> None:
        while not self._stop.wait(self._interval):
            with self._lock:
                self._take()

    def _take(self) -> None:
        if self.failure:
            return
        try:
            reading = self._source.read()
        except NotMeasured as reason:  # a sensor that goes to sleep, a program that ends
            self.failure = str(reason)
            return
        self._phase.add(reading, self._source.total(reading.watts))


class Watch:
    """A context manager around what is measured; use it once."""

    def __init__(self, idle_s: float = IDLE, interval_s: float = INTERVAL, machine: Machine | None = None) -> None:
        self._machine = machine or Machine()
        self._idle_s, self._interval = idle_s, interval_s
        self._idle, self._run = Phase(), Phase()
        self._no_power = f"{UNKNOWN}the run has not ended"
        self.seconds = 0.0

    def __enter__(self) -> "Watch":
        self._sampler: Sampler | None = None
        try:
            self._source = find_power(self._machine)
            self._sampler = Sampler(self._source, self._interval)
        except NotMeasured as reason:
            self._no_power = str(reason)
        try:
            if self._sampler:
                self._sampler.begin()
                time.sleep(self._idle_s)
                self._idle = self._sampler.next_phase()
            self._before = self._state()
            if self._sampler:
                self._sampler.next_phase()  # reading the state belongs to nobody
        except BaseException:  # Ctrl-C while idling: __exit__ will not be called
            if self._sampler:
                self._sampler.end()
            raise
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.monotonic() - self._began
        if self._sampler:
            self._run = self._sampler.next_phase()
            self._sampler.end()
            self._no_power = self._sampler.failure
            for phase, remedy in ((self._idle, "a longer idle_s"), (self._run, "a longer run")):
                if not self._no_power and len(phase.readings) < FEWEST:
                    few = f"of too few readings of power ({len(phase.readings)})"
                    self._no_power = f"{UNKNOWN}{few}: {remedy} is needed"
        self._after = self._state()

    def energy(self) -> float | str:
        """J that the block took beyond an idle machine's."""
        if self._no_power:
            return self._no_power
        idle = self._idle.total / self._idle.seconds * self._run.seconds
        if self._run.total <= idle:
            return f"{UNKNOWN}the run took no more power than the idle machine before it: was that idle?"
        return self._run.total - idle

    def energy_per(self, count: int) -> float | str:
        """J of each of `count` things that the block did."""
        spent = self.energy()
        if isinstance(spent, str):
            return spent
        return spent / count if count > 0 else f"{UNKNOWN}nothing was done"

    def report(self) -> dict[str, Any]:
        """Keys that are always there; JSON can hold it."""
        spent = self.energy()
        power: dict[str, Any] = {"source": self._no_power, "scope": self._no_power}
        power |= dict.fromkeys(("idle", "run", "joules_standard_error"), self._no_power)
        if not self._no_power:
            power = {"source": self._source.name, "scope": self._source.scope}
            power |= {"idle": self._idle.summary(), "run": self._run.summary()}
            power["joules_standard_error"] = round(self._standard_error(), 4)
        power["joules_beyond_idle"] = spent if isinstance(spent, str) else round(spent, 4)
        return {
            "seconds": round(self.seconds, 3),
            "before": self._before,
            "after": self._after,
            "throttling_events": self._events(),
            "power": power,
        }

    def rows(self) -> list[str]:
        """Markdown rows of two columns, after those of `benchmarks.host.rows`."""
        from benchmarks.host.report import watch_rows

        return watch_rows(self.report())

    def _standard_error(self) -> float:
        """J, if the readings were independent; they follow each other, so the truth is larger."""
        return math.sqrt(self._idle.variance_of_mean + self._run.variance_of_mean) * self._run.seconds

    def _state(self) -> dict[str, Any]:
        return {
            "temperatures_c": thermal.temperatures(self._machine),
            "throttling": thermal.throttling(self._machine),
            "load_average": fact(system.load, self._machine),
            "memory_available_mib": fact(system.available, self._machine),
        }

    def _events(self) -> dict[str, int] | str:
        """How often the machine throttled during the block."""
        before, after = (state["throttling"]["events"] for state in (self._before, self._after))
        if isinstance(before, str) or isinstance(after, str):
            return str(before if isinstance(before, str) else after)
        return {name: after[name] - before[name] for name in before if name in after}
