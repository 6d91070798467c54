"""What real machines printed, and trees of files in which a made one stands.

recorded("nvpmodel.txt")["AGX Thor, JetPack 7"]     # "NV Power Mode: MAXN\\n0"
tree(tmp_path, {"proc/loadavg": "0.10 0.20 0.30 1/99 7"})
program(tmp_path, "nvpmodel", "NV Power Mode: MAXN\\n0")
"""

from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("recorded")
GPU = "sys/class/devfreq/17000000.gpu"
POLICY = "sys/devices/system/cpu/cpufreq/policy0"


def recorded(name: str) -> dict[str, str]:
    """The outputs in a file by their titles: "=== title", a line that says where it was found, the output itself."""
    blocks = (FOLDER / name).read_text("utf-8").split("\n=== ")[1:]
    found = {}
    for block in blocks:
        title, source, output = block.split("\n", 2)
        assert source.startswith("from: "), f"{name}: {title} does not say where it is from"
        found[title] = output.rstrip("\n")
    return found


def tree(root: Path, files: Mapping[str, str | int]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f".{path.name}")  # a thread may be reading: the kernel's files are never half written
        whole.write_text(f"{content}\n", "utf-8")
        whole.replace(path)


def program(root: Path, name: str, output: str, then: str = "") -> None:
    """A program below the root that prints this, then goes on as `then` says."""
    text = root / f"{name}.out"
    text.write_text(output + "\n", "utf-8")
    path = root / "usr/sbin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat '{text}'\n{then}\n", "utf-8")
    path.chmod(0o755)


def chip(root: Path, number: int, name: str, files: Mapping[str, str | int]) -> None:
    """A hwmon chip as sysfs shows it: the class holds links to the devices."""
    device = f"sys/devices/platform/chip{number}/hwmon/hwmon{number}"
    tree(root, {f"{device}/name": name} | {f"{device}/{file}": content for file, content in files.items()})
    link = root / f"sys/class/hwmon/hwmon{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / device, target_is_directory=True)


def ina3221(root: Path, number: int, rails: Mapping[str, tuple[int, int]]) -> None:
    """Up to three rails, mV and mA, in the layout of the kernel's Documentation/hwmon/ina3221.rst."""
    files: dict[str, str | int] = {"in7_label": "sum of shunt voltages", "in7_input": 680}
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        files |= {f"in{channel}_label": label, f"in{channel}_input": millivolts, f"curr{channel}_input": milliamperes}
        files |= {f"in{channel + 3}_input": 200}  # uV over the shunt
    chip(root, number, "ina3221", files)


def orin_nano(root: Path) -> None:
    """An Orin Nano with JetPack 6.2: recorded programs, sysfs as its kernel lays it out."""
    tree(
        root,
        {
            "etc/nv_tegra_release": recorded("nv_tegra_release.txt")["36.4.3"],
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"',
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "proc/meminfo": "MemTotal:        7802000 kB\nMemAvailable:    5800000 kB",
            "proc/loadavg": "0.52 0.58 0.59 1/1024 4321",
            "proc/self/status": "Name:\tpython\nCpus_allowed:\t3f\nCpus_allowed_list:\t0-3",
            "proc/self/cgroup": "0::/user.slice",
            "sys/devices/system/cpu/online": "0-5",
            f"{POLICY}/scaling_governor": "schedutil",
            f"{POLICY}/scaling_cur_freq": 1190400,
            f"{POLICY}/scaling_min_freq": 729600,
            f"{POLICY}/scaling_max_freq": 1344000,
            f"{POLICY}/cpuinfo_max_freq": 1728000,
            f"{GPU}/cur_freq": 306000000,
            f"{GPU}/min_freq": 306000000,
            f"{GPU}/max_freq": 918000000,
            f"{GPU}/governor": "nvhost_podgov",
            "sys/class/devfreq/15340000.vic/cur_freq": 729600000,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 45531,
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal",  # its temperature cannot be read while it sleeps
            "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
            "sys/class/thermal/thermal_zone2/temp": -256000,
            "sys/class/thermal/thermal_zone10/type": "tj-thermal",
            "sys/class/thermal/thermal_zone10/temp": 46468,
            "sys/class/thermal/cooling_device0/type": "pwm-fan",
            "sys/class/thermal/cooling_device0/cur_state": 2,
            "sys/class/thermal/cooling_device1/type": "cpu-throttle-alert",
            "sys/class/thermal/cooling_device1/cur_state": 0,
            "sys/class/thermal/cooling_device2/type": "gpu-throttle-alert",
            "sys/class/thermal/cooling_device2/cur_state": 1,
            "var/lib/dpkg/status": "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2.1+b38\n\n"
            "Package: libnvinfer10\nStatus: install ok installed\nVersion: 10.3.0.30-1+cuda12.5\n",
        },
    )
    ina3221(root, 1, {"VDD_IN": (5016, 660), "VDD_CPU_GPU_CV": (5016, 104), "VDD_SOC": (5016, 200)})
    chip(root, 3, "soctherm_oc", {"oc1_event_cnt": 0, "oc2_event_cnt": 15, "oc3_event_cnt": 37})
    program(root, "nvpmodel", recorded("nvpmodel.txt")["Orin Nano, L4T 36.4.3"])
    program(root, "jetson_clocks", recorded("jetson_clocks.txt")["Orin Nano, L4T 36.4.3, 25 W, free"])
