"""jetson-stats' real service and client on boards that are trees of files (tests/benchmarks/jtop_board.py)."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import Options, compare
from benchmarks.host import accelerator
from runtime.support.errors import ShrikeError
from tests.benchmarks.made_report import made_report
from tests.benchmarks.test_host import GPU, POLICY, orin_nano, recorded, tree

pytest.importorskip("jtop", reason="pip install '.[jetson]'")

NVPMODEL = """#!/bin/sh
case "$1" in
-q) printf 'NV Power Mode: {name}\\n{id}\\n' ;;
-p) printf 'PM_CONFIG: DEFAULT=25W(1)\\nPOWER_MODEL: ID=0 NAME=15W\\nPOWER_MODEL: ID=1 NAME=25W\\n'
    printf 'POWER_MODEL: ID=2 NAME=MAXN_SUPER\\n' ;;
esac
"""
JETSON_CLOCKS = """#!/bin/sh
case "$1" in
--show) cat <<'EOF'
{shown}
EOF
;;
--store) echo stored >"$2"; echo stored ;;
esac
"""
RECORDED_MODES = {"15W": "Orin Nano, a snap of nvpmodel", "25W": "Orin Nano, L4T 36.4.3"}
CPU = "sys/devices/system/cpu/cpu"
LINKS = {
    "sys/bus/i2c/devices/1-0040/hwmon/hwmon1": "sys/class/hwmon/hwmon1",
    "sys/devices/virtual/thermal": "sys/class/thermal",
}
EMC = "sys/kernel/debug/bpmp/debug"


def namespaces() -> bool:
    try:
        return os.getuid() == 0 and subprocess.run(["unshare", "--mount", "true"], timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


pytestmark = pytest.mark.skipif(not namespaces(), reason="needs root and mount namespaces: jtop's service runs as root")


def board(folder: Path, mode: str, number: int, pinned: bool, release: str) -> dict[str, Any]:
    """Facts of an Orin Nano in this power mode, clocks pinned or not, by our code and by jtop."""
    root = tree(orin_nano(folder / "board"), {"etc/nv_tegra_release": recorded("nv_tegra_release.txt")[release]})
    clocks = {"scaling_governor": "schedutil", "scaling_cur_freq": 1190400, "scaling_min_freq": 729600,
              "scaling_max_freq": 1344000, "cpuinfo_min_freq": 115200, "cpuinfo_max_freq": 1728000}  # fmt: skip
    if pinned:
        clocks["scaling_min_freq"] = clocks["scaling_max_freq"]
        tree(root, {f"{POLICY}/scaling_min_freq": 1344000, f"{GPU}/min_freq": 918000000, f"{GPU}/cur_freq": 918000000})
    cores = os.cpu_count() or 1  # /proc/stat has this machine's
    tree(root, {
        f"{GPU}/device/of_node/name": "gpu", "sys/devices/system/cpu/online": f"0-{cores - 1}",
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        f"{EMC}/clk/emc/rate": 2133000000, f"{EMC}/clk/emc/max_rate": 3199000000, f"{EMC}/clk/emc/min_rate": 204000000,
        f"{EMC}/actmon/mc_all_avg_activity": 21330,
        **{f"{CPU}{n}/cpufreq/{name}": value for n in range(cores) for name, value in clocks.items()},
        "sys/bus/i2c/devices/1-0040/name": "ina3221",
        "usr/bin/jetson_clocks": JETSON_CLOCKS.format(shown=recorded("jetson_clocks.txt")["Orin NX, JetPack 6"]),
    })  # fmt: skip
    (root / "usr/bin/jetson_clocks").chmod(0o755)
    for link, target in LINKS.items():
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(root / target)
    program = folder / "bin/nvpmodel"
    program.parent.mkdir()
    program.write_text(NVPMODEL.format(name=mode, id=number), "utf-8")
    program.chmod(0o755)
    found = subprocess.run(
        ["unshare", "--mount", sys.executable, "-m", "tests.benchmarks.jtop_board", str(root)],
        env=os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return dict(json.loads(found.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    modes = {"MAXN_SUPER": (2, True, "36.4.3"), "15W": (0, False, "35.4.1")}
    return {name: board(tmp_path_factory.mktemp("orin"), name, *facts) for name, facts in modes.items()}


def test_the_service_gives_mode_and_clocks(boards: dict[str, dict[str, Any]]) -> None:
    found = boards["MAXN_SUPER"]
    assert found["hardware"]["L4T"] == "36.4.3" and "Orin Nano" in found["hardware"]["Model"]
    assert found["direct"] == {
        "power_mode": "MAXN_SUPER", "power_mode_id": 2,
        "gpu_mhz": {"current": 918, "min": 918, "max": 918}, "gpu_governor": "nvhost_podgov", "clocks_pinned": True,
        "emc_mhz": {"current": 2133, "min": 204, "max": 3199},
    }  # fmt: skip
    assert found["jetson"] == {"l4t": "36.4.3", "jetpack": "6.1 to 6.2.3", **found["direct"]}
    other = boards["15W"]["direct"]
    assert (other["power_mode"], other["power_mode_id"], other["clocks_pinned"]) == ("15W", 0, False)
    assert other["gpu_mhz"]["min"] == 306


def test_jetpack_5_and_6_are_known_to_the_service(boards: dict[str, dict[str, Any]]) -> None:
    releases = [(b["hardware"]["L4T"], b["hardware"]["Jetpack"], b["jetson"]["jetpack"]) for b in boards.values()]
    assert releases == [("36.4.3", "6.2", "6.1 to 6.2.3"), ("35.4.1", "5.1.2", "5.1 to 5.1.7")]


def test_power_temperature_and_throttling_agree_with_the_service(boards: dict[str, dict[str, Any]]) -> None:
    found = boards["15W"]
    assert found["watts"] == pytest.approx(found["jtop"]["milliwatts"] / 1000, abs=1e-3)
    ours = {name.removesuffix("-thermal"): value for name, value in found["state"]["temperatures_c"].items()}
    assert ours and ours == pytest.approx(found["jtop"]["celsius"], abs=0.05)
    assert found["state"]["throttling"] == {"events": {"oc2": 15}, "active": ["gpu-throttle-alert"]}


@pytest.mark.parametrize(("by_nvpmodel", "refused"), [("15W", False), ("25W", True)])
def test_a_mode_by_jtop_and_one_by_nvpmodel_compare_alike(
    boards: dict[str, dict[str, Any]], by_nvpmodel: str, refused: bool
) -> None:
    jtop = boards["15W"]["jetson"]
    theirs = dict.fromkeys(jtop) | accelerator.parse_nvpmodel(recorded("nvpmodel.txt")[RECORDED_MODES[by_nvpmodel]])
    theirs |= {name: jtop[name] for name in ("l4t", "jetpack", "gpu_mhz", "gpu_governor", "clocks_pinned")}  # by sysfs
    a, b = (made_report(machine={"jetson": jetson}, kind="latency") for jetson in (jtop, theirs))
    with pytest.raises(ShrikeError, match="power_mode") if refused else nullcontext():
        compare(a, b, Options(Path(), Path()))
