"""Joules: rails, counters and tegrastats give what flowed; what an idle machine takes is not charged to the run."""

import os
import time
from pathlib import Path

import pytest

from benchmarks import host
from benchmarks.host.machine import Machine, NotMeasured
from benchmarks.host.power import Rails, Rapl, TegrastatsRails, find_power
from tests.benchmarks.recordings import chip, ina3221, program, recorded, tree

PACKAGE = "sys/class/powercap/intel-rapl:0"
RANGE = 262143328850  # uJ, a Core i7's max_energy_range_uj


def rapl(root: Path, package: int, core: int = 0) -> None:
    """A PC processor's zones as /sys/class/powercap shows them."""
    zones = {PACKAGE: ("package-0", package), f"{PACKAGE}:0": ("core", core), f"{PACKAGE}:1": ("dram", 0)}
    zones["sys/class/powercap/intel-rapl-mmio:0"] = ("package-0", package)
    for zone, (name, energy) in zones.items():
        tree(root, {f"{zone}/name": name, f"{zone}/energy_uj": energy, f"{zone}/max_energy_range_uj": RANGE})


def test_rails_of_jetpack_5_and_later_are_volts_times_amperes(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5016, 2000), "VDD_CPU_GPU_CV": (5016, 500), "VDD_SOC": (5016, 400)})
    source = find_power(Machine(tmp_path))
    reading = source.read()
    assert reading.watts == pytest.approx({"VDD_IN": 10.032, "VDD_CPU_GPU_CV": 2.508, "VDD_SOC": 2.0064})
    assert source.total(reading.watts) == pytest.approx(10.032)  # the input feeds the other two
    assert source.scope == "VDD_IN: the whole module, without the carrier board"


def test_rails_of_jetpack_4_and_before_are_milliwatts(tmp_path: Path) -> None:
    device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    names = {f"{device}/rail_name_{n}": name for n, name in enumerate(("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"))}
    tree(tmp_path, {**names, **{f"{device}/in_power{n}_input": value for n, value in enumerate((1750, 0, 366))}})
    source = find_power(Machine(tmp_path))
    assert isinstance(source, Rails)
    assert source.read().watts == pytest.approx({"POM_5V_IN": 1.75, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.366})
    assert source.total(source.read().watts) == pytest.approx(1.75)


def test_agx_orin_has_no_input_and_its_memory_is_not_counted_twice(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_GPU_SOC": (19880, 100), "VDD_CPU_CV": (19880, 50), "VIN_SYS_5V0": (5000, 800)})
    ina3221(tmp_path, 2, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 200)})
    source = find_power(Machine(tmp_path))
    watts = source.read().watts
    assert set(watts) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert source.total(watts) == pytest.approx(1.988 + 0.994 + 4.0)
    assert source.scope == "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0: the module's rails, without the carrier board"


def test_a_rail_that_is_switched_off_is_left_out_but_never_the_input(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5000, 600), "VDD_CPU_GPU_CV": (5000, 100), "VDD_SOC": (5000, 200)})
    current = tmp_path / "sys/class/hwmon/hwmon1"
    (current / "curr2_input").rename(current / "away")
    assert set(find_power(Machine(tmp_path)).read().watts) == {"VDD_IN", "VDD_SOC"}
    tree(tmp_path, {"sys/class/hwmon/hwmon1/curr1_input": "no number"})
    with pytest.raises(NotMeasured, match=r"/curr1_input holds no number; tegrastats belongs to Jetsons"):
        find_power(Machine(tmp_path))


def test_thor_s_second_monitor_measures_the_input(tmp_path: Path) -> None:
    ina3221(tmp_path, 5, {"VDD_GPU": (12040, 640), "VDD_CPU_SOC_MSS": (12040, 960), "VIN_SYS_5V0": (5088, 1740)})
    chip(tmp_path, 4, "ina238", {"label": "VIN", "power1_input": 20986000, "in1_input": 19900})
    source = find_power(Machine(tmp_path))
    watts = source.read().watts
    assert watts["VDD_GPU"] == pytest.approx(7.7056) and source.total(watts) == pytest.approx(20.986)
    assert source.scope == "VIN: the whole board with its carrier"


def test_processor_counters_count_joules_even_around_their_end(tmp_path: Path) -> None:
    rapl(tmp_path, package=RANGE - 2_000_000, core=1_000_000)
    source = find_power(Machine(tmp_path))
    assert isinstance(source, Rapl)
    rapl(tmp_path, package=5_000_000, core=4_000_000)
    reading = source.read()
    assert reading.watts["package-0"] * reading.seconds == pytest.approx(7.0)
    assert reading.watts["core-0"] * reading.seconds == pytest.approx(3.0)
    assert source.total(reading.watts) * reading.seconds == pytest.approx(7.0)  # a core is part of its package
    assert source.scope.startswith("package-0 + dram-0: the processor")


def test_tegrastats_where_the_files_are_missing(tmp_path: Path) -> None:
    line = recorded("tegrastats.txt")["Orin NX 16 GB"]
    tree(tmp_path, {"etc/nv_tegra_release": recorded("nv_tegra_release.txt")["36.4.3"]})
    program(tmp_path, "tegrastats", line, then=f"echo $$ > '{tmp_path}/pid'; while sleep 0.02; do echo '{line}'; done")
    source = find_power(Machine(tmp_path))
    assert isinstance(source, TegrastatsRails)
    time.sleep(0.2)
    watts = source.read().watts
    assert watts == pytest.approx({"VDD_IN": 5.299, "VDD_CPU_GPU_CV": 0.773, "VDD_SOC": 1.424})
    assert source.total(watts) == pytest.approx(5.299)
    source.end()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_a_source_every_reason_is_given(tmp_path: Path) -> None:
    tree(tmp_path, {"etc/nv_tegra_release": recorded("nv_tegra_release.txt")["32.7.1"]})
    with pytest.raises(NotMeasured) as caught:
        find_power(Machine(tmp_path))
    assert str(caught.value) == (
        "not measured, because the board shows no power monitor (INA3221); tegrastats is not there; "
        "the processor's energy counters (/sys/class/powercap) are not there"
    )


def test_tegrastats_without_rails_is_no_source(tmp_path: Path) -> None:
    tree(tmp_path, {"etc/nv_tegra_release": recorded("nv_tegra_release.txt")["32.7.1"]})
    lines = recorded("tegrastats.txt")
    program(tmp_path, "tegrastats", lines["six cores and 4 GB, JetPack 4.6, not run as root, no power rails"])
    with pytest.raises(NotMeasured, match="tegrastats prints no power rails"):
        find_power(Machine(tmp_path))


def test_a_watch_counts_the_run_s_joules_and_shares_them_out(tmp_path: Path) -> None:
    rapl(tmp_path, package=1_000_000)
    with host.Watch(idle_s=0.3, interval_s=0.01, machine=Machine(tmp_path)) as watch:
        rapl(tmp_path, package=3_500_000)
        time.sleep(0.2)
        rapl(tmp_path, package=6_000_000)
    assert watch.energy() == pytest.approx(5.0)  # the counter stood still while idle
    assert watch.energy_per(20) == pytest.approx(0.25)
    assert watch.energy_per(0) == "not measured, because nothing was done"
    power = watch.report()["power"]
    assert power["joules_standard_error"] > 0
    assert power["idle"]["watts"] == 0 and power["run"]["joules"] == pytest.approx(5.0)
    assert any("| energy beyond idle | 5.00 ± " in row for row in watch.rows())


def test_what_an_idle_machine_takes_is_subtracted(tmp_path: Path) -> None:
    def rail(milliamperes: int) -> None:
        tree(tmp_path, {"sys/class/hwmon/hwmon1/curr1_input": milliamperes})

    ina3221(tmp_path, 1, {"VDD_IN": (5000, 600)})  # 3 W
    with host.Watch(idle_s=0.3, interval_s=0.01, machine=Machine(tmp_path)) as watch:
        rail(2000)  # 10 W
        time.sleep(0.2)
    power, spent = watch.report()["power"], watch.energy()
    assert power["idle"]["watts"] == pytest.approx(3.0) and 3.0 < power["run"]["watts"] <= 10.0
    assert isinstance(spent, float)
    assert spent == pytest.approx(power["run"]["joules"] - 3.0 * power["run"]["seconds"], abs=0.01)
    assert 0 < spent <= 7.0 * power["run"]["seconds"] + 0.01


def test_a_run_that_takes_no_more_than_idle_is_no_measurement(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5000, 600)})
    with host.Watch(idle_s=0.3, interval_s=0.01, machine=Machine(tmp_path)) as watch:
        tree(tmp_path, {"sys/class/hwmon/hwmon1/curr1_input": 500})
        time.sleep(0.1)
    assert str(watch.energy_per(1)).startswith("not measured, because the run took no more power than the idle machine")


def test_too_few_readings_are_no_measurement(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5000, 600)})
    with host.Watch(idle_s=0.0, interval_s=5.0, machine=Machine(tmp_path)) as watch:
        pass
    expected = "not measured, because of too few readings of power (1): a longer idle_s is needed"
    assert watch.energy() == watch.report()["power"]["source"] == expected


def test_a_sensor_that_goes_away_leaves_a_reason(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5000, 600)})
    with host.Watch(idle_s=0.05, interval_s=0.01, machine=Machine(tmp_path)) as watch:
        (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
        time.sleep(0.05)
    assert watch.energy() == "not measured, because /sys/class/hwmon/hwmon1/curr1_input is not there"


def test_heat_throttling_and_load_are_taken_before_and_after(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    tree(tmp_path, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": 40000, "proc/loadavg": "0.10 0.20 0.30 1/9 9"})
    chip(tmp_path, 3, "soctherm_oc", {"oc1_event_cnt": 2, "oc3_event_cnt": 30})
    with host.Watch(idle_s=60.0, machine=Machine(tmp_path)) as watch:  # nothing to measure: nothing to wait for
        tree(tmp_path, {f"{zone}/temp": 61500, "proc/loadavg": "1.00 0.20 0.30 1/9 9"})
        tree(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": 37})
    report = watch.report()
    assert report["before"]["temperatures_c"] == {"cpu-thermal": 40.0}
    assert report["after"]["temperatures_c"] == {"cpu-thermal": 61.5}
    assert report["after"]["load_average"] == [1.0, 0.2, 0.3]
    assert report["throttling_events"] == {"oc1": 0, "oc3": 7}
    assert "| throttled during the run | oc1 0, oc3 7 |" in watch.rows()
    assert watch.energy() == report["power"]["source"] and "no power monitor" in report["power"]["source"]


def test_an_error_in_the_block_ends_the_watch_and_passes_on(tmp_path: Path) -> None:
    rapl(tmp_path, package=1_000_000)
    with (
        pytest.raises(ZeroDivisionError),
        host.Watch(idle_s=0.05, interval_s=0.01, machine=Machine(tmp_path)) as watch,
    ):
        raise ZeroDivisionError
    assert watch.report()["power"]["idle"] == watch.energy()  # too short to be measured, and it says so
