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
from tests.benchmarks.test_host import GPU, orin_nano, recorded, tree

pytest.importorskip("jtop", reason="pip install '.[jetson]'")

NVPMODEL = """#!/bin/sh
case "$1" in
-q) printf 'NV Power Mode: {name}\\n{id}\\n' ;;
-p) printf 'PM_CONFIG: DEFAULT=25W(1)\\nPOWER_MODEL: ID=0 NAME=15W\\nPOWER_MODEL: ID=1 NAME=25W\\n'
    printf 'POWER_MODEL: ID=2 NAME=MAXN_SUPER\\n' ;;
esac
"""
RECORDED_MODES = {"15W": "Orin Nano, a snap of nvpmodel", "25W": "Orin Nano, L4T 36.4.3"}
CPU = "sys/devices/system/cpu/cpu"
EMC = "sys/kernel/debug/bpmp/debug"


def namespaces() -> bool:
    try:
        return os.getuid() == 0 and subprocess.run(["unshare", "--mount", "true"], timeout=20).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


pytestmark = pytest.mark.skipif(not namespaces(), reason="needs root and mount namespaces: jtop's service runs as root")


def board(folder: Path, mode: str, number: int) -> dict[str, Any]:
    """Facts of an Orin Nano in this power mode, by our code and by jtop."""
    root = orin_nano(folder / "board")
    clocks = {"scaling_governor": "schedutil", "scaling_cur_freq": 1190400, "scaling_min_freq": 729600,
              "scaling_max_freq": 1344000, "cpuinfo_min_freq": 115200, "cpuinfo_max_freq": 1728000}  # fmt: skip
    cores = os.cpu_count() or 1  # /proc/stat has this machine's
    tree(root, {
        f"{GPU}/device/of_node/name": "gpu", "sys/devices/system/cpu/online": f"0-{cores - 1}",
        "sys/firmware/devicetree/base/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        f"{EMC}/clk/emc/rate": 2133000000, f"{EMC}/clk/emc/max_rate": 3199000000, f"{EMC}/clk/emc/min_rate": 204000000,
        f"{EMC}/actmon/mc_all_avg_activity": 21330,
        **{f"{CPU}{n}/cpufreq/{name}": value for n in range(cores) for name, value in clocks.items()},
    })  # fmt: skip
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
    modes = {"MAXN_SUPER": 2, "15W": 0}
    return {name: board(tmp_path_factory.mktemp("orin"), name, number) for name, number in modes.items()}


def test_the_service_gives_mode_and_clocks(boards: dict[str, dict[str, Any]]) -> None:
    found = boards["MAXN_SUPER"]
    assert found["hardware"]["L4T"] == "36.4.3" and "Orin Nano" in found["hardware"]["Model"]
    assert found["direct"] == {
        "power_mode": "MAXN_SUPER", "power_mode_id": 2,
        "gpu_mhz": {"current": 306, "min": 306, "max": 918}, "gpu_governor": "nvhost_podgov",
        "emc_mhz": {"current": 2133, "min": 204, "max": 3199},
    }  # fmt: skip
    assert found["jetson"] == {
        "l4t": "36.4.3", "jetpack": "6.1 to 6.2.3", "clocks_pinned": False, **found["direct"],
    }  # fmt: skip
    assert boards["15W"]["direct"]["power_mode"] == "15W" and boards["15W"]["direct"]["power_mode_id"] == 0


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
