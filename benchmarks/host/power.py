"""Where watts can be read: a Jetson's power rails (sysfs, else tegrastats) or a PC's processor counters (RAPL).

source = find_power(Machine())      # it has begun; or NotMeasured with the reasons of all sources
reading = source.read()             # Reading(seconds=0.1, watts={"VDD_IN": 5.2, ...}): means since the last one
source.total(reading.watts)         # W: the rails that `scope` names, none counted twice
source.end()
"""

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from benchmarks.host.jetson import is_jetson, parse_tegrastats
from benchmarks.host.machine import UNKNOWN, Machine, NotMeasured, fact, kill, known

Watts = dict[str, float]

CHIPS = {"ina3221", "ina238"}  # the second is Thor's, for VIN
INPUTS = ("VIN", "VDD_IN", "POM_5V_IN")  # a rail that feeds all others; VIN is Thor's, with the carrier board
WITHIN = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}  # AGX Orin: the memory's rail hangs on the other (NVIDIA's power page)
LINE_EVERY = 100  # ms between lines of tegrastats
FIRST_LINE = 3.0  # s to wait for the first


@dataclass(frozen=True)
class Reading:
    """What flowed between two moments; seconds x watts are joules, exactly where the source counts them itself."""

    seconds: float
    watts: Watts


class PowerSource(Protocol):
    """A thing that knows how much power flows. Not thread-safe: one thread asks at a time."""

    name: str  # for a report

    @property
    def scope(self) -> str:
        """What the total holds."""

    def begin(self) -> None:
        """Take a first reading; NotMeasured where there is none."""

    def read(self) -> Reading:
        """Each rail's mean since the last call or `begin`."""

    def total(self, watts: Watts) -> float:
        """W of everything in the scope."""

    def end(self) -> None:
        """Give back what `begin` took."""


def find_power(machine: Machine) -> PowerSource:
    """The best source that answers here; it has begun, and whoever gets it ends it."""
    sources: list[PowerSource] = [Rails(machine), TegrastatsRails(machine), Rapl(machine)]
    reasons = []
    for source in sources:
        try:
            source.begin()
            return source
        except NotMeasured as reason:
            reasons.append(reason.args[0])
    raise NotMeasured("; ".join(reasons))


def parts_of_total(rails: list[str]) -> list[str]:
    """The input alone where there is one, else all that do not hang on another."""
    for name in INPUTS:
        if name in rails:
            return [name]
    return [name for name in rails if WITHIN.get(name) not in rails]


def scope_of_rails(rails: list[str]) -> str:
    parts = parts_of_total(rails)
    if parts == ["VIN"]:
        return "VIN: the whole board with its carrier"
    if len(parts) == 1 and parts[0] in INPUTS:
        return f"{parts[0]}: the whole module, without the carrier board"
    return f"{' + '.join(parts)}: the module's rails, without the carrier board"


class Rails:
    """Power monitors on the board, read through the kernel's files.

    hwmon (JetPack 5 and later):  in1_label "VDD_IN", in1_input mV, curr1_input mA; ina238: power1_input uW
    iio (JetPack 4 and before):   rail_name_0 "POM_5V_IN", in_power0_input mW
    """

    name = "power monitors of the board (sysfs)"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._last: Watts = {}

    @property
    def scope(self) -> str:
        return scope_of_rails(list(self._last))

    def begin(self) -> None:
        self._files = self._find()
        self._last, self._at = self._read(), time.monotonic()

    def read(self) -> Reading:
        now, at = self._read(), time.monotonic()
        mean = {name: (now[name] + self._last[name]) / 2 for name in now}  # a straight line between two readings
        reading = Reading(at - self._at, mean)
        self._last, self._at = now, at
        return reading

    def total(self, watts: Watts) -> float:
        return sum(watts[name] for name in parts_of_total(list(watts)))

    def end(self) -> None:
        pass

    def _find(self) -> dict[str, tuple[tuple[str, ...], float]]:
        """Each rail's files, whose product with the factor is W."""
        machine = self._machine
        found: dict[str, tuple[tuple[str, ...], float]] = {}
        for chip in machine.paths("sys/class/hwmon/hwmon*"):
            if fact(machine.text, f"{chip}/name") not in CHIPS:
                continue
            for power in machine.paths(f"{chip}/power*_input"):
                labels = [fact(machine.text, path) for path in (power.replace("_input", "_label"), f"{chip}/label")]
                name = next(filter(known, labels), machine.text(f"{chip}/name"))
                found[name] = ((power,), 1e-6)
            for current in machine.paths(f"{chip}/curr[1-3]_input"):  # in4 to in7 are shunts and sums
                voltage = current.replace("/curr", "/in")
                label = fact(machine.text, voltage.replace("_input", "_label"))
                if known(label) and label != "NC" and machine.has(voltage):  # NC: not connected
                    found[label] = ((voltage, current), 1e-6)
        for folder in ("sys/bus/i2c/drivers/ina3221x/*/iio*", "sys/bus/iio/devices/iio*"):
            for rail in machine.paths(f"{folder}/rail_name_[0-2]"):
                power = rail.replace("rail_name_", "in_power") + "_input"
                found.setdefault(machine.text(rail), ((power,), 1e-3))
        for name, (paths, _) in list(found.items()):
            unread = [value for value in (fact(machine.number, path) for path in paths) if isinstance(value, str)]
            if unread and name in INPUTS:  # the others alone would be taken for the whole
                raise NotMeasured(unread[0].removeprefix(UNKNOWN))
            if unread:  # a channel that is switched off (in1_enable)
                del found[name]
        if not found:
            raise NotMeasured("the board shows no power monitor (INA3221)")
        return found

    def _read(self) -> Watts:
        watts = {}
        for name, (paths, factor) in self._files.items():
            watts[name] = factor
            for path in paths:
                watts[name] *= self._machine.number(path)
        return watts


class TegrastatsRails:
    """The same rails as tegrastats prints them, for a container or a system without the files."""

    name = "tegrastats"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._sum: Watts = {}
        self._lines = 0
        self._last: Watts = {}

    @property
    def scope(self) -> str:
        return scope_of_rails(list(self._last))

    def begin(self) -> None:
        if not is_jetson(self._machine):
            raise NotMeasured("tegrastats belongs to Jetsons")
        self._last, self._sum, self._lines = {}, {}, 0
        self._process = self._machine.start("tegrastats", "--interval", str(LINE_EVERY))
        self._arrived = threading.Event()
        self._reader = threading.Thread(target=self._listen, name="tegrastats", daemon=True)
        self._reader.start()
        if not self._arrived.wait(FIRST_LINE) or not self._last:
            self.end()
            raise NotMeasured("tegrastats prints no power rails")
        self._at = time.monotonic()

    def read(self) -> Reading:
        with self._lock:
            if self._lines:
                self._last = {name: value / self._lines for name, value in self._sum.items()}
                self._sum, self._lines = {}, 0
            elif self._process.poll() is not None:
                raise NotMeasured("tegrastats ended during the run")
            at, before = time.monotonic(), self._at
            self._at = at
            return Reading(at - before, dict(self._last))

    def total(self, watts: Watts) -> float:
        return sum(watts[name] for name in parts_of_total(list(watts)))

    def end(self) -> None:
        kill(self._process)
        self._reader.join(1.0)
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            rails = parse_tegrastats(line).rails
            if not rails:
                continue
            with self._lock:
                self._sum = {name: self._sum.get(name, 0.0) + value for name, value in rails.items()}
                self._lines += 1
                self._last = self._last or rails
            self._arrived.set()
        self._arrived.set()


class Rapl:
    """The energy counters of an Intel or AMD processor (running average power limit): the processor, not the PC."""

    name = "RAPL counters of the processor"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._zones: dict[str, str] = {}

    @property
    def scope(self) -> str:
        return f"{' + '.join(self._parts())}: the processor, without board, disks and power supply"

    def begin(self) -> None:
        self._zones = {}
        # intel-rapl-mmio repeats the package; AMD's zones are called intel-rapl too.
        for zone in self._machine.paths("sys/class/powercap/intel-rapl:*"):
            name = self._machine.text(f"{zone}/name")
            package = zone.rpartition("/")[2].split(":")[1]
            self._zones[name if name.startswith(("package", "psys")) else f"{name}-{package}"] = zone
        if not self._zones:
            raise NotMeasured("the processor's energy counters (/sys/class/powercap) are not there")
        self._spans = {name: self._machine.number(f"{zone}/max_energy_range_uj") for name, zone in self._zones.items()}
        self._before, self._at = self._read(), time.monotonic()

    def read(self) -> Reading:
        now, at = self._read(), time.monotonic()
        seconds = max(at - self._at, 1e-9)
        # A counter starts again from 0 above its range, after minutes or hours.
        spent = {name: now[name] - self._before[name] for name in now}
        spent = {name: value if value >= 0 else value + self._spans[name] for name, value in spent.items()}
        self._before, self._at = now, at
        return Reading(seconds, {name: value * 1e-6 / seconds for name, value in spent.items()})

    def total(self, watts: Watts) -> float:
        return sum(watts[name] for name in self._parts())

    def end(self) -> None:
        pass

    def _parts(self) -> list[str]:
        """Packages and their memory; core and uncore are inside the package, psys around everything."""
        return [name for name in self._zones if name.startswith(("package", "dram"))]

    def _read(self) -> dict[str, int]:
        return {name: self._machine.number(f"{zone}/energy_uj") for name, zone in self._zones.items()}
