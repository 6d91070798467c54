"""Changes of the machine during a run: load, temperatures, throttling, and the energy beyond that of the idle machine.

    with Watch(idle_s=3.0) as watch:
        for window in windows:
            engine(window)
    watch.energy()          # J beyond idle, or None
    watch.report()          # everything, as JSON

Power comes from a Jetson's INA3221 monitors. It is sampled for `idle_s` before the block and during it, with the same
sampling, and the idle power is subtracted.
"""

import math
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.host.facts import number, read, state

INTERVAL = 0.1  # s: an INA3221 averages over about as long, and a reading costs a few ms of a core
FEWEST = 3  # readings of a mean
INPUTS = ("VIN", "VDD_IN", "POM_5V_IN")  # rails that feed all others; VIN is Thor's, carrier board included
WITHIN = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}  # AGX Orin: the first rail is fed by the second (NVIDIA's power page)


class PowerMeter:
    """Watts of a Jetson's rails; `name` is None where nothing is readable."""

    def __init__(self, root: Path = Path("/")) -> None:
        rails: dict[str, tuple[Path, Path]] = {}  # in1_label "VDD_IN", in1_input in mV, curr1_input in mA
        for current in sorted(root.glob("sys/class/hwmon/hwmon*/curr[1-3]_input")):
            volts = current.with_name(current.name.replace("curr", "in"))
            label = read(volts.with_name(volts.name.replace("_input", "_label")))
            if read(current.parent / "name") == "ina3221" and label not in ("", "NC"):  # NC: not connected
                rails[label] = volts, current
        for name in sorted(root.glob("sys/class/hwmon/hwmon*/name")):  # Thor's carrier board; this chip has no labels
            if read(name) == "ina238":
                rails["VIN"] = name.with_name("in1_input"), name.with_name("curr1_input")
        whole = [name for name in INPUTS if name in rails][:1]
        counted = whole or [name for name in rails if WITHIN.get(name) not in rails]
        self.rails = [rails[name] for name in counted]
        self.name = (
            None
            if self.joules(0.0) is None
            else f"{'INA238' if counted == ['VIN'] else 'INA3221'}: {' + '.join(counted)}"
        )

    def joules(self, seconds: float) -> float | None:
        """Energy of so many seconds at the power of this moment; None where it cannot be read."""
        pairs = [(number(volts), number(current)) for volts, current in self.rails]
        powers = [None if v is None or i is None else v * i * 1e-6 for v, i in pairs]
        return None if not powers or None in powers else seconds * sum(power or 0.0 for power in powers)


class Watch:
    """A context manager around a measurement; use it once."""

    def __init__(self, idle_s: float = 5.0, interval_s: float = INTERVAL, root: Path = Path("/")) -> None:
        self._root, self._idle_s, self._interval, self._meter = root, idle_s, interval_s, PowerMeter(root)
        self._readings: dict[str, list[tuple[float, float | None]]] = {"idle": [], "run": []}  # s, J
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, args=("run", float("inf")), daemon=True)

    def __enter__(self) -> "Watch":
        if self._meter.name:
            self._sample("idle", time.monotonic() + self._idle_s)
        self._before, self._began = state(self._root), time.monotonic()
        if self._meter.name:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self._began
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        self._after = state(self._root)

    def _sample(self, phase: str, until: float) -> None:
        last, done = time.monotonic(), False
        while not done:
            done = self._stop.wait(self._interval) or time.monotonic() >= until
            now = time.monotonic()
            self._readings[phase].append((now - last, self._meter.joules(now - last)))
            last = now

    def _watts(self, phase: str) -> float | None:
        readings = self._readings[phase]
        joules = [energy for _, energy in readings if energy is not None]
        whole = len(joules) == len(readings) >= FEWEST
        return sum(joules) / sum(seconds for seconds, _ in readings) if whole else None

    def energy(self) -> float | None:
        """J that the block took beyond the idle machine; None: not measurable, or not more than idle."""
        idle, run = self._watts("idle"), self._watts("run")
        if idle is None or run is None or run < idle or math.isclose(run, idle):  # means of equal readings round apart
            return None
        return (run - idle) * self.seconds

    def report(self) -> dict[str, Any]:
        """Before and after, throttling events in between, and power."""
        before, after = (found["throttling"]["events"] for found in (self._before, self._after))
        return {
            "seconds": round(self.seconds, 3),
            "before": self._before,
            "after": self._after,
            "throttling_events": {name: count - before.get(name, 0) for name, count in after.items()},
            "power_source": self._meter.name,
            "idle_watts": self._watts("idle"),
            "run_watts": self._watts("run"),
            "joules_beyond_idle": self.energy(),
        }
