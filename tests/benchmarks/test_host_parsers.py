"""What programs printed on real machines is understood: every generation of Jetsons, and nvidia-smi."""

import pytest

from benchmarks.host.gpu import parse_csv
from benchmarks.host.jetson import parse_clocks, parse_nvpmodel, parse_tegrastats
from benchmarks.host.machine import NotMeasured
from benchmarks.host.power import parts_of_total
from tests.benchmarks.recordings import recorded

LINES = recorded("tegrastats.txt")
MODES = recorded("nvpmodel.txt")
CLOCKS = recorded("jetson_clocks.txt")
CARDS = recorded("nvidia-smi.txt")
ORIN = ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
XAVIER = ["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"]


@pytest.mark.parametrize(
    ("title", "parts", "watts", "rails", "gpu_mhz", "emc_mhz", "gpu_degrees"),
    [
        ("TX1, before JetPack 5", ["VDD_IN"], 2.532, 3, 76, 408, 39.0),
        ("TX2, JetPack 3", ["VDD_IN"], 1.776, 6, 140, 102, 39.0),
        ("TX2, before JetPack 5", ["VDD_IN"], 5.297, 6, 114, 1866, 39.5),
        ("six cores and 4 GB, JetPack 4.6, not run as root, no power rails", [], 0.0, 0, None, None, 50.0),
        ("Nano, before JetPack 5", ["POM_5V_IN"], 1.022, 3, 76, 204, 36.0),
        ("Nano, JetPack 4.6.1", ["POM_5V_IN"], 1.75, 3, 76, 1600, 40.0),
        ("AGX Xavier, before JetPack 5", XAVIER, 0.311 + 0.932 + 0.621 + 1.482, 6, 318, 665, 37.5),
        ("Xavier NX, before JetPack 5", ["VDD_IN"], 4.067, 3, 306, 1600, 43.0),
        ("Xavier NX, JetPack 5.1.2", ["VDD_IN"], 2.763, 3, 114, 204, 45.5),
        ("Orin NX 16 GB", ["VDD_IN"], 5.299, 3, 611, 2133, 45.875),
        ("AGX Orin, not run as root", ORIN, 4.94 + 0.988 + 4.442, 3, None, None, 37.75),
        ("AGX Orin, JetPack 6", ORIN, 3.205 + 4.405 + 4.767, 3, 305, 2133, 47.812),
        ("Orin Nano, JetPack 6, not run as root", ["VDD_IN"], 3.311, 3, None, None, 46.468),
        (
            "AGX Thor, JetPack 7, its list of cores shortened by who recorded it",
            ["VIN"],
            26.686,
            4,
            None,
            None,
            39.906,
        ),
    ],
)
def test_tegrastats_of_every_generation(
    title: str,
    parts: list[str],
    watts: float,
    rails: int,
    gpu_mhz: int | None,
    emc_mhz: int | None,
    gpu_degrees: float,
) -> None:
    line = parse_tegrastats(LINES[title])
    assert parts_of_total(list(line.rails)) == parts and len(line.rails) == rails
    assert sum(line.rails[name] for name in parts) == pytest.approx(watts)
    assert (line.gpu_mhz, line.emc_mhz) == (gpu_mhz, emc_mhz)
    degrees = {name.lower(): value for name, value in line.temperatures.items()}
    assert degrees["gpu"] == gpu_degrees
    assert line.ram is not None and 0 < line.ram[0] < line.ram[1]


def test_every_recorded_line_is_tested_above() -> None:
    marks = test_tegrastats_of_every_generation.pytestmark  # type: ignore[attr-defined]
    assert {case[0] for case in marks[0].args[1]} == set(LINES)


def test_no_memory_no_load_and_no_clock_is_taken_for_a_rail() -> None:
    for title, text in LINES.items():
        line = parse_tegrastats(text)
        assert not {"RAM", "IRAM", "SWAP", "APE", "CPU [", "fg"} & set(line.rails), title
        assert all(0 <= value < 60 for value in line.rails.values()), title


def test_a_line_of_anything_else_is_no_measurement() -> None:
    line = parse_tegrastats("tegrastats: command line error")
    assert line.ram is None and not line.rails and not line.temperatures


@pytest.mark.parametrize(
    ("title", "mode", "number"),
    [
        ("Nano, L4T 32.5.1", "MAXN", 0),
        ("Xavier, in 2020, without the number", "MAXN", "not measured, because nvpmodel -q gives no number"),
        ("Orin Nano, a snap of nvpmodel", "15W", 0),
        ("Orin Nano, L4T 36.4.3", "25W", 1),
        ("Orin Nano, L4T 36.4.3, nvpmodel -q --verbose, its beginning", "25W", 1),
        ("AGX Thor, JetPack 7", "MAXN", 0),
        ("AGX Thor, JetPack 7, as delivered", "120W", 1),
    ],
)
def test_the_power_mode_has_a_name_and_a_number(title: str, mode: str, number: int | str) -> None:
    assert parse_nvpmodel(MODES[title]) == (mode, number)


def test_nvpmodel_without_a_mode_is_no_answer() -> None:
    with pytest.raises(NotMeasured, match="names no power mode"):
        parse_nvpmodel("NVPM ERROR: failed to read PARAM GPU: ARG FREQ_TBL: PATH")


@pytest.mark.parametrize(
    ("title", "cpus", "gpu", "emc", "held", "mode"),
    [
        ("TX1, L4T 28.1, held", 4, (998, 998, 998), 1600, True, None),
        ("Nano, JetPack 4, 5 W, free", 2, (460, 76, 614), 1600, False, "5W"),
        ("Nano, JetPack 4, 5 W, held", 2, (614, 614, 614), 1600, True, "5W"),
        ("Orin Nano, L4T 36.4.3, 25 W, free", 6, (306, 306, 918), 2133, False, "25W"),
        ("AGX Thor, JetPack 7, MAXN, held", 14, (1575, 1575, 1575), 4266, True, "MAXN"),
    ],
)
def test_jetson_clocks_show(
    title: str, cpus: int, gpu: tuple[int, int, int], emc: int, held: bool, mode: str | None
) -> None:
    shown = parse_clocks(CLOCKS[title])
    assert len(shown.cpus) == cpus  # those that are online
    assert shown.gpu is not None and shown.gpu.mhz() == dict(zip(("current", "min", "max"), gpu, strict=True))
    assert shown.gpu.pinned == held  # in these recordings jetson_clocks held both or neither
    assert shown.emc is not None and shown.emc.mhz()["current"] == emc
    assert (shown.emc_held, shown.mode) == (held, mode)


def test_nvidia_smi_is_read_by_its_own_names_and_brackets_are_no_value() -> None:
    (card,) = parse_csv(CARDS["GeForce RTX 5060 Laptop, driver 595.84"])
    assert card == {
        "name": "NVIDIA GeForce RTX 5060 Laptop GPU",
        "driver_version": "595.84",
        "compute_cap": "12.0",
        "memory.total": "8151 MiB",
    }
    cards = parse_csv(CARDS["Six of the A100s of a server, driver 570, one of them broken"])
    assert [card.get("power.limit") for card in cards] == ["300.00 W"] * 3 + [None] + ["300.00 W"] * 2
    assert parse_csv("No devices were found") == []
