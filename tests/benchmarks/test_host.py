"""Facts of machines: trees of files as kernels write them, recorded outputs, and this machine against psutil."""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import host
from benchmarks.host import __main__ as command
from benchmarks.host import accelerator, facts
from benchmarks.host.watch import PowerMeter, Watch
from runtime.engines.jetpack import jetpack, l4t

RECORDED = Path(__file__).with_name("recorded")
GPU = "sys/class/devfreq/17000000.gpu"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"
L4T = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)


def recorded(name: str) -> dict[str, str]:
    """The outputs in a file by their titles: "=== title", a line with its origin, the output."""
    blocks = (RECORDED / name).read_text("utf-8").split("\n=== ")[1:]
    return {block.split("\n", 2)[0]: block.split("\n", 2)[2].rstrip("\n") for block in blocks}


def tree(root: Path, files: Mapping[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}").write_text(f"{content}\n", "utf-8")
        path.with_name(f".{path.name}").replace(path)  # a thread may be reading
    return root


def rail(root: Path, channel: int, label: str, millivolts: int, milliamperes: int) -> Path:
    """In the layout of the kernel's Documentation/hwmon/ina3221.rst."""
    chip = "sys/class/hwmon/hwmon1"
    return tree(root, {
        f"{chip}/name": "ina3221", f"{chip}/in{channel}_label": label, f"{chip}/in{channel}_input": millivolts,
        f"{chip}/curr{channel}_input": milliamperes,
    })  # fmt: skip


def orin_nano(root: Path) -> Path:
    """An Orin Nano with JetPack 6.2, sysfs as its kernel lays it out."""
    thermal = {"0/type": "cpu-thermal", "0/temp": 45531, "1/type": "gpu-thermal", "2/type": "cv0-thermal",
               "2/temp": -256000, "10/type": "PMIC-Die", "10/temp": 100000}  # fmt: skip
    rail(root, 1, "VDD_IN", 5016, 660)
    rail(root, 2, "VDD_CPU_GPU_CV", 5016, 104)
    return tree(root, {
        "etc/nv_tegra_release": L4T, "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"',
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
        "proc/meminfo": "MemTotal:        7802000 kB\nMemAvailable:    5800000 kB",
        "proc/cpuinfo": recorded("cpuinfo.txt")[next(iter(recorded("cpuinfo.txt")))],
        f"{POLICY}/scaling_governor": "schedutil", f"{POLICY}/scaling_cur_freq": 1190400,
        f"{POLICY}/scaling_min_freq": 729600, f"{POLICY}/scaling_max_freq": 1344000,
        f"{GPU}/cur_freq": 306000000, f"{GPU}/min_freq": 306000000, f"{GPU}/max_freq": 918000000,
        f"{GPU}/governor": "nvhost_podgov", "sys/class/devfreq/15340000.vic/cur_freq": 729600000,
        **{f"sys/class/thermal/thermal_zone{name}": value for name, value in thermal.items()},
        "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert",
        "sys/class/thermal/cooling_device1/cur_state": 0,
        "sys/class/thermal/cooling_device2/type": "gpu-throttle-alert",
        "sys/class/thermal/cooling_device2/cur_state": 1,
        "sys/class/hwmon/hwmon3/oc2_event_cnt": 15,
    })  # fmt: skip


def keys(value: object) -> object:
    return {name: keys(entry) for name, entry in value.items()} if isinstance(value, dict) else None


def test_a_jetson_by_sysfs(tmp_path: Path) -> None:
    facts = host.describe(orin_nano(tmp_path))
    json.dumps(facts, allow_nan=False)
    assert facts["jetson"] == {
        "l4t": "36.4.3", "jetpack": "6.1 to 6.2.3", "power_mode": None, "power_mode_id": None,
        "gpu_mhz": {"current": 306, "min": 306, "max": 918}, "gpu_governor": "nvhost_podgov", "emc_mhz": None,
        "clocks_pinned": False,
    }  # fmt: skip
    assert facts["cpu"]["governor"] == "schedutil" and facts["cpu"]["scaling_max_mhz"] == [1344]
    assert facts["temperatures_c"] == {
        "cpu-thermal": 45.5
    }  # a sleeping, a switched-off and an absent sensor are left out
    assert facts["throttling"] == {"events": {"oc2": 15}, "active": ["gpu-throttle-alert"]}
    assert facts["memory"]["total_mib"] == 7619 and facts["system"]["os"] == "Ubuntu 22.04.5 LTS"
    assert not str(facts["system"]["board"]).endswith("\0")


def test_fixed_clocks_are_recognised(tmp_path: Path) -> None:
    fixed = {f"{GPU}/{name}_freq": 918000000 for name in ("cur", "min", "max")}
    tree(orin_nano(tmp_path), fixed | {f"{POLICY}/scaling_min_freq": 1344000})
    assert host.describe(tmp_path)["jetson"]["clocks_pinned"] is True


def test_jtop_supplies_mode_and_clocks() -> None:
    class Mode:
        id = 2

        def __str__(self) -> str:
            return "MAXN_SUPER"

    gpu = {"gpu": {"freq": {"cur": 306000, "min": 306000, "max": 1020000, "governor": "nvhost_podgov"}}}
    emc = {"EMC": {"cur": 2133000, "min": 204000, "max": 3199000}}
    found = accelerator.from_jtop(SimpleNamespace(nvpmodel=Mode(), jetson_clocks=True, gpu=gpu, memory=emc))
    assert found["power_mode"] == "MAXN_SUPER" and found["power_mode_id"] == 2 and found["clocks_pinned"] is True
    assert found["gpu_mhz"]["max"] == 1020 and found["emc_mhz"]["current"] == 2133
    assert accelerator.from_jtop(SimpleNamespace(nvpmodel=None, jetson_clocks=None, gpu={}, memory={})) == {}


def test_a_jetson_is_recognised_by_its_device_tree_alone(tmp_path: Path) -> None:
    for title, compatible in recorded("device_tree.txt").items():
        for text in (compatible, compatible.replace("nvidia,", "\0nvidia,").strip("\0")):
            assert accelerator.is_jetson(tree(tmp_path / title, {"proc/device-tree/compatible": text})), title
    assert not accelerator.is_jetson(
        tree(tmp_path, {"proc/device-tree/compatible": "raspberrypi,5-model-bbrcm,bcm2712"})
    )


def test_nvpmodel_of_every_generation() -> None:
    for title, output in recorded("nvpmodel.txt").items():
        found = accelerator.parse_nvpmodel(output)
        assert found["power_mode"] in ("MAXN", "15W", "25W", "120W"), title
        assert (found["power_mode_id"] is None) == ("without the number" in title)
    assert accelerator.parse_nvpmodel("") == {}


def test_an_nvidia_gpu_by_nvml() -> None:
    class Refused(Exception):  # noqa: N818
        pass

    def refuse(*_: object) -> None:
        raise Refused

    class Nvml(SimpleNamespace):
        NVMLError, NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = Refused, 1, 2, 0

        def __getattr__(self, name: str) -> object:  # everything that this GPU does not report
            return refuse

    nvml = Nvml(
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetName=lambda handle: "NVIDIA H100",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=80 << 30),
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 700_000,
    )
    found = accelerator.from_nvml(nvml)
    assert tuple(found) == accelerator.GPU_KEYS
    assert (found["count"], found["name"], found["memory_mib"]) == (2, "NVIDIA H100", 81920)
    assert found["power_limit"] == "700 W" and found["sm_mhz"] is None


def test_the_keys_are_the_same_on_every_machine(tmp_path: Path) -> None:
    here, empty, jetson = (keys(host.describe(root)) for root in (Path("/"), tmp_path / "0", orin_nano(tmp_path / "1")))
    assert isinstance(here, dict) and isinstance(empty, dict) and isinstance(jetson, dict)
    assert list(here) == list(empty) == list(jetson)
    assert all(here[name] == empty[name] for name in ("cpu", "jetson", "gpu", "system", "memory"))


def test_nothing_names_the_machine_or_its_user() -> None:
    text = json.dumps(host.describe())
    names = {socket.gethostname(), os.environ.get("USER", ""), os.environ.get("HOME", "")} - {"", "root", "localhost"}
    assert not [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]


def test_this_machine_agrees_with_psutil() -> None:
    psutil = pytest.importorskip("psutil")
    facts = host.describe()
    assert facts["memory"]["total_mib"] == psutil.virtual_memory().total >> 20
    assert facts["cpu"]["logical_cores"] == psutil.cpu_count()
    assert facts["cpu"]["allowed_cores"] == len(psutil.Process().cpu_affinity())
    assert facts["packages"]["psutil"] == psutil.__version__


def test_arm_cores_have_names_and_only_common_instruction_sets(tmp_path: Path) -> None:
    core = "processor : {0}\nFeatures : fp asimd asimddp {1}\nCPU implementer : 0x41\nCPU part : {2}\n"
    cpuinfo = core.format(0, "i8mm", "0xd42") + core.format(1, "", "0xd42") + core.format(2, "", "0xfff")
    assert facts.model(cpuinfo) == "2 x Cortex-A78AE + 1 x ARM core 0xfff of maker 0x41"
    assert facts.instruction_sets(cpuinfo) == ["asimd", "asimddp"]
    for title, output in recorded("cpuinfo.txt").items():
        assert facts.model(output), title


def test_a_containers_quota_is_the_smallest_of_its_groups(tmp_path: Path) -> None:
    tree(tmp_path, {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000",
                    "sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/memory.max": 512 << 20})  # fmt: skip
    facts = host.describe(tmp_path)
    assert facts["cpu"]["quota_cores"] == 1.5 and facts["memory"]["limit_mib"] == 512


# ---- power


def test_rails_are_volts_times_amperes_and_the_input_counts_alone(tmp_path: Path) -> None:
    meter = PowerMeter(orin_nano(tmp_path))
    assert meter.watts() == pytest.approx(5.016 * 0.66)
    rails = rail(rail(tmp_path / "agx", 1, "VDD_GPU_SOC", 1000, 1000), 2, "VIN_SYS_5V0", 5000, 1000)
    assert PowerMeter(rail(rails, 3, "VDDQ_VDD2_1V8AO", 1800, 1000)).watts() == pytest.approx(6.0)  # fed by VIN_SYS_5V0
    assert PowerMeter(tmp_path / "nothing").name is None


def test_a_watch_subtracts_the_idle_machine(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    with host.Watch(0.2, 0.02, tmp_path) as watch:
        rail(tmp_path, 1, "VDD_IN", 5016, 1660)
        tree(tmp_path, {"sys/class/hwmon/hwmon3/oc2_event_cnt": 17})
        time.sleep(0.3)
    joules, report = watch.energy(), watch.report()
    assert joules is not None and 0 < joules <= 5.1 * report["seconds"]
    assert report["throttling_events"] == {"oc2": 2} and report["run_watts"] > report["idle_watts"]
    with host.Watch(0.1, 0.02, tmp_path) as watch:
        time.sleep(0.1)
    assert watch.energy() is None  # no more than idle
    with host.Watch(0.1, 0.02, tmp_path / "nothing") as watch:
        pass
    assert watch.energy() is None and watch.report()["power_source"] is None


def test_rounding_is_no_energy() -> None:
    """Means of equal powers may differ in their last bit."""
    watch = Watch(root=Path("nothing"))
    watch.seconds, watch.idle_watts = 1.0, 3.31056
    watch.run_watts = watch.idle_watts * (1 + 1e-15)
    assert watch.idle_watts != watch.run_watts and watch.energy() is None
    watch.run_watts = 3.4
    assert watch.energy() == pytest.approx(3.4 - watch.idle_watts)


def test_the_command_prints_json_and_markdown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["host", "--json"])
    command.main()
    assert json.loads(capsys.readouterr().out)["version"] == host.VERSION
    monkeypatch.setattr(sys, "argv", ["host", "--short"])
    command.main()
    assert capsys.readouterr().out.startswith("| fact")


def test_power_and_temperatures_that_tegrastats_printed(tmp_path: Path) -> None:
    """The rails and zones of a recorded line as the kernel lays them out; NVIDIA's page adds up three of AGX Orin's."""
    [line] = recorded("tegrastats.txt").values()
    for number, (label, milliwatts) in enumerate(re.findall(r"(\w+) (\d+)mW/", line)):
        chip, channel = f"sys/class/hwmon/hwmon{number // 3}", number % 3 + 1
        tree(tmp_path, {f"{chip}/name": "ina3221", f"{chip}/in{channel}_label": label,
                        f"{chip}/in{channel}_input": 1000, f"{chip}/curr{channel}_input": milliwatts})  # fmt: skip
    zones = re.findall(r"(\w+)@(-?[\d.]+)C\b", line)
    for number, (name, celsius) in enumerate(zones):
        zone = f"sys/class/thermal/thermal_zone{number}"
        tree(tmp_path, {f"{zone}/type": name, f"{zone}/temp": round(1000 * float(celsius))})
    assert PowerMeter(tmp_path).watts() == pytest.approx(2.340 + 0.390 + 4.025)
    awake = {name: float(celsius) for name, celsius in zones if celsius != "-256"}
    assert facts.temperatures(tmp_path) == pytest.approx(awake, abs=0.05)
    assert len(awake) == 7 and len(zones) == 11


def test_the_jetpack_of_a_board_that_jtop_described() -> None:
    def number(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    for title, output in recorded("jtop.txt").items():
        version, release = re.search(r"L4T:? ([\d.]+)", output), re.search(r"JetPack ([\d.]+)", title)
        assert version and release
        row = jetpack(version[1])
        first, *others = re.findall(r"\d\.[\d.]*\d", row[0]) if row else ("99.0",)
        assert number(first) <= number(release[1]), title
        assert not others or number(release[1]) <= number(others[-1]), title


# ---- jetson-stats itself, where it is installed


def test_every_recorded_release_is_the_jetpack_that_jetson_stats_names(tmp_path: Path) -> None:
    variables = pytest.importorskip("jtop.core.jetson_variables")
    for version, text in recorded("nv_tegra_release.txt").items():
        path = tmp_path / version
        path.write_text(text, "utf-8")
        row = jetpack(version)
        theirs = variables.NVIDIA_JETPACK.get(version, variables.NVIDIA_JETPACK.get(f"{version}.0"))
        assert l4t(path) == version and theirs
        assert row is None or theirs[0] == row[0][0], version  # JetPack 4 has no row


def test_the_power_mode_is_that_of_jetson_stats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvpmodel = pytest.importorskip("jtop.core.nvpmodel")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for title, output in recorded("nvpmodel.txt").items():
        if "without the number" in title:  # jetson-stats needs it
            continue
        (tmp_path / "nvpmodel").write_text(f"#!/bin/sh\ncat <<'EOF'\n{output}\nEOF\n", "utf-8")
        (tmp_path / "nvpmodel").chmod(0o755)
        theirs, ours = nvpmodel.nvpmodel_query(), accelerator.parse_nvpmodel(output)
        assert (theirs["name"], theirs["id"]) == (ours["power_mode"], ours["power_mode_id"]), title


def test_power_is_that_of_jetson_stats(tmp_path: Path) -> None:
    """Module rails of Thor's INA3221 and the board's input by its INA238, in the kernel's layout."""
    power = pytest.importorskip("jtop.core.power")
    devices = tmp_path / "sys/bus/i2c/devices"
    for number, (driver, files) in enumerate({
        "ina3221": {"in1_label": "VDD_GPU", "in1_input": 20000, "curr1_input": 500},
        "ina238": {"in1_input": 20100, "curr1_input": 1500, "power1_input": 30150000},
    }.items()):  # fmt: skip
        chip = f"sys/bus/i2c/devices/2-004{number}"
        tree(tmp_path, {f"{chip}/name": driver, f"{chip}/hwmon/hwmon{number}/name": driver})
        tree(tmp_path, {f"{chip}/hwmon/hwmon{number}/{name}": value for name, value in files.items()})
        link = tmp_path / f"sys/class/hwmon/hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / chip / f"hwmon/hwmon{number}")
        sensors = power.find_all_i2c_power_monitor(str(devices))
        rails = {name: power.read_power_status(files) for name, files in sensors.items()}
        for rail_ in rails.values():
            rail_.setdefault("power", rail_["volt"] * rail_["curr"] // 1000)
            rail_["avg"] = 0
        total, _ = power.total_power(rails)
        assert PowerMeter(tmp_path).watts() == pytest.approx(total["power"] / 1000)
