"""Changes of the machine during a run: load, temperatures, throttling, and the energy beyond that of the idle machine.

    with Watch(idle_s=3.0) as watch:
        work()
    watch.energy(), watch.report()          # J beyond idle, or None; everything, as JSON

Power of a Jetson's monitors is sampled before the block and during it; the idle power is subtracted.
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
            volts, chip = current.with_name(current.name.replace("curr", "in")), read(current.parent / "name")
            label = "VIN" if chip == "ina238" else read(volts.with_name(volts.name.replace("_input", "_label")))
            if chip in ("ina3221", "ina238") and label not in ("", "NC"):  # NC: not connected
                rails[label] = volts, current
        whole = [name for name in INPUTS if name in rails][:1]
        counted = whole or [name for name in rails if WITHIN.get(name) not in rails]
        self._rails = [rails[name] for name in counted]
        chip = "INA238" if counted == ["VIN"] else "INA3221"  # Thor's carrier board has the first, without labels
        self.name = None if self.watts() is None else f"{chip}: {' + '.join(counted)}"

    def watts(self) -> float | None:
        """The power of this moment; None where it cannot be read."""
        pairs = [(number(volts), number(current)) for volts, current in self._rails]
        powers = [v * i * 1e-6 for v, i in pairs if v is not None and i is not None]
        return sum(powers) if powers and len(powers) == len(pairs) else None


class Watch:
    """A context manager around a measurement; use it once."""

    def __init__(self, idle_s: float = 5.0, interval_s: float = INTERVAL, root: Path = Path("/")) -> None:
        self._root, self._idle_s, self._interval, self._meter = root, idle_s, interval_s, PowerMeter(root)
        self.idle_watts: float | None = None
        self.run_watts: float | None = None
        self._stop = threading.Event()

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._sample_run, daemon=True)
        if self._meter.name:
            self.idle_watts = self._sample(time.monotonic() + self._idle_s)
            self._thread.start()
        self._before, self._began = state(self._root), time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.seconds = time.monotonic() - self._began
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        self._after = state(self._root)

    def _sample_run(self) -> None:
        self.run_watts = self._sample(math.inf)

    def _sample(self, until: float) -> float | None:
        """Mean power until that time or the end of the block; None with few readings, or one that failed."""
        readings = list[float | None]()
        while not self._stop.wait(self._interval) and time.monotonic() < until:
            readings.append(self._meter.watts())
        known = [watts for watts in readings if watts is not None]
        return sum(known) / len(known) if len(known) == len(readings) >= FEWEST else None

    def energy(self) -> float | None:
        """J that the block took beyond the idle machine; None: not measurable, or not more than idle."""
        idle, run = self.idle_watts, self.run_watts
        if idle is None or run is None or run < idle or math.isclose(run, idle):  # means of equal readings round apart
            return None
        return (run - idle) * self.seconds

    def report(self) -> dict[str, Any]:
        """Before and after, throttling events in between, and power."""
        before, after = (found["throttling"]["events"] for found in (self._before, self._after))
        return {
            "seconds": round(self.seconds, 3), "before": self._before, "after": self._after,
            "throttling_events": {name: count - before.get(name, 0) for name, count in after.items()},
            "power_source": self._meter.name, "idle_watts": self.idle_watts, "run_watts": self.run_watts,
            "joules_beyond_idle": self.energy(),
        }  # fmt: skip
