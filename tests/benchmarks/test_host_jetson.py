"""A Jetson is described whole: version, power mode, clocks, what holds them, heat, rails."""

from pathlib import Path

import pytest

from benchmarks import host
from tests.benchmarks.recordings import GPU, POLICY, orin_nano, recorded, tree


def test_a_jetson_is_described_whole(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    facts = host.describe(tmp_path)
    assert facts["system"]["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert facts["jetson"] == {
        "l4t": "36.4.3",
        "jetpack": "6.2.1+b38",
        "power_mode": "25W",
        "power_mode_id": 1,
        "gpu_mhz": {"current": 306, "min": 306, "max": 918},
        "gpu_governor": "nvhost_podgov",
        "emc_mhz": {"current": 2133, "min": 204, "max": 3199, "held": False},
        "clocks_pinned": False,
    }
    cpu = facts["cpu"]
    assert (cpu["governor"], cpu["current_mhz"], cpu["min_mhz"], cpu["max_mhz"]) == ("schedutil", [1190], 729, 1344)
    assert (cpu["logical_cores"], cpu["allowed_cores"]) == (6, 4)
    assert facts["temperatures_c"] == {
        "cpu-thermal": 45.5,
        "gpu-thermal": "not measured, because /sys/class/thermal/thermal_zone1/temp is not there",
        "cv0-thermal": "not measured, because the sensor is off",
        "tj-thermal": 46.5,
    }
    assert facts["throttling"] == {"events": {"oc1": 0, "oc2": 15, "oc3": 37}, "active": ["gpu-throttle-alert"]}
    assert facts["power"]["rails_watts"] == {"VDD_IN": 3.311, "VDD_CPU_GPU_CV": 0.522, "VDD_SOC": 1.003}
    text = host.table(host.rows(facts))
    assert "L4T 36.4.3, JetPack 6.2.1+b38" in text and "25W, clocks not held" in text and "tj-thermal 46.5" in text


def test_jetson_clocks_holds_every_clock_or_it_does_not_count(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    tree(tmp_path, dict.fromkeys((f"{GPU}/cur_freq", f"{GPU}/min_freq", f"{GPU}/max_freq"), 918000000))
    assert host.describe(tmp_path)["jetson"]["clocks_pinned"] is False  # the processor's are still free
    tree(tmp_path, {f"{POLICY}/scaling_min_freq": 1344000})
    assert host.describe(tmp_path)["jetson"]["clocks_pinned"] is True


def test_root_reads_the_memory_clock_from_the_kernel_itself(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    emc = "sys/kernel/debug/bpmp/debug/clk/emc"
    values = {"rate": 3199000000, "min_rate": 204000000, "max_rate": 3199000000, "mrq_rate_locked": 1}
    tree(tmp_path, {f"{emc}/{name}": value for name, value in values.items()})
    assert host.describe(tmp_path)["jetson"]["emc_mhz"] == {"current": 3199, "min": 204, "max": 3199, "held": True}


@pytest.mark.parametrize(
    ("version", "jetpack"),
    [
        ("32.7.1", "not measured, because nvidia-jetpack is not installed and L4T is older than JetPack 5.1's"),
        ("35.4.1", "5.1 to 5.1.6 (by L4T)"),
        ("36.4.3", "6.1 to 6.2.2 (by L4T)"),
        ("38.2.0", "7.0, 7.1 (by L4T)"),
    ],
)
def test_the_release_file_gives_l4t_and_a_range_of_jetpacks(tmp_path: Path, version: str, jetpack: str) -> None:
    tree(tmp_path, {"etc/nv_tegra_release": recorded("nv_tegra_release.txt")[version]})
    facts = host.describe(tmp_path)["jetson"]
    assert (facts["l4t"], facts["jetpack"]) == (version, jetpack)
    assert facts["power_mode"] == "not measured, because nvpmodel is not there"
    assert facts["gpu_mhz"] == "not measured, because /sys/class/devfreq has no GPU"


def test_in_a_container_without_the_release_file_the_device_tree_still_says_jetson(tmp_path: Path) -> None:
    compatible = "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0"  # an AGX Thor's
    tree(tmp_path, {"proc/device-tree/compatible": compatible})
    facts = host.describe(tmp_path)
    assert facts["jetson"]["l4t"].startswith("not measured, because /etc/nv_tegra_release is not there")
    assert any(row.startswith("| power mode | not measured, because nvpmodel") for row in host.rows(facts))
