"""The description is true here, has the same keys everywhere, says why a value is missing, and tells on nobody."""

import getpass
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import host
from benchmarks.host.machine import Machine, NotMeasured, fact
from tests.benchmarks.recordings import chip, orin_nano, program, recorded, tree

ROOT = Path(__file__).resolve().parents[2]


def keys(facts: Any, name: str = "") -> Iterator[str]:
    """Names of what every machine must have; which zones, rails and counters there are is its own affair."""
    yield name
    free = re.search(r"/(temperatures_c|events|rails_watts|\w+_mhz)$", name)
    if isinstance(facts, dict) and not free:
        for key, value in facts.items():
            yield from keys(value, f"{name}/{key}")


def test_the_keys_are_the_same_on_every_machine_and_json_holds_them(tmp_path: Path) -> None:
    (tmp_path / "jetson").mkdir()
    (tmp_path / "nothing").mkdir()
    orin_nano(tmp_path / "jetson")
    here, jetson, nothing = host.describe(), host.describe(tmp_path / "jetson"), host.describe(tmp_path / "nothing")
    assert list(keys(here)) == list(keys(jetson)) == list(keys(nothing))
    for facts in (here, jetson, nothing):
        assert json.loads(json.dumps(facts)) == facts
        assert "None" not in json.dumps(facts) and "null" not in json.dumps(facts)
        assert host.table(host.rows(facts)).startswith("| the machine | |\n| --- | --- |\n| machine | ")
        assert all(re.fullmatch(r"\|[^|\n]+\|[^|\n]+\|", row) for row in host.rows(facts))


def test_a_machine_without_anything_says_why_for_everything(tmp_path: Path) -> None:
    facts = host.describe(tmp_path)
    assert facts["cpu"]["model"] == "not measured, because /proc/cpuinfo is not there"
    assert facts["jetson"]["power_mode"] == "not measured, because this is not a Jetson"
    assert facts["gpu"]["name"] == "not measured, because nvidia-smi is not there"
    assert facts["power"]["source"].startswith("not measured, because the board shows no power monitor")
    of_this_python = {"architecture", "python", "version", "numpy", "onnxruntime", "torch", "tensorrt", "runs_in"}
    for section in facts.values():
        for key, value in section.items() if isinstance(section, dict) else ():
            assert key in of_this_python or not host.known(value), (key, value)


def test_nothing_tells_who_or_where_one_is(tmp_path: Path) -> None:
    orin_nano(tmp_path)
    tree(tmp_path, {"proc/sys/kernel/hostname": "the-secret-host", "proc/version": "Linux (the-secret-user@host)"})
    for facts, root in ((host.describe(), ROOT), (host.describe(tmp_path), tmp_path)):
        text = json.dumps(facts) + host.markdown(facts) + host.table(host.rows(facts))
        assert "secret" not in text and str(root) not in text and str(Path.home()) + "/" not in text
        for name in (socket.gethostname(), getpass.getuser()):
            # A name as short as "vm" or "root" is also a word ("read by root only"): then as a word alone.
            assert len(name) < 5 or not re.search(rf"\b{re.escape(name)}\b", text), name


def test_the_numbers_are_those_of_lscpu_free_and_uname() -> None:
    if not all(map(shutil.which, ("lscpu", "free", "uname"))):
        pytest.skip("needs lscpu, free and uname to compare with")

    def output(*command: str) -> str:
        env = os.environ | {"LC_ALL": "C"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout

    cpu, memory, system = (host.describe()[section] for section in ("cpu", "memory", "system"))
    lines = [line for line in output("lscpu", "-p=CPU,CORE,SOCKET").splitlines() if not line.startswith("#")]
    assert cpu["logical_cores"] == len(lines)
    assert cpu["physical_cores"] == len({line.partition(",")[2] for line in lines})
    assert cpu["allowed_cores"] == len(os.sched_getaffinity(0))
    lscpu = dict(re.findall(r"^([^:\n]+):\s*(.*)$", output("lscpu"), re.MULTILINE))
    assert cpu["architecture"] == lscpu["Architecture"] == platform.machine()
    if cpu["architecture"] == "x86_64":
        assert cpu["model"] == " ".join(lscpu["Model name"].split())
        assert set(cpu["instruction_sets"]) <= set(lscpu["Flags"].split())
        assert ("avx2" in cpu["instruction_sets"]) == ("avx2" in lscpu["Flags"].split())
    total, *_, available = output("free", "-m").splitlines()[1].split()[1:]
    assert memory["total_mib"] == int(total)
    assert abs(memory["available_mib"] - int(available)) < 0.2 * int(total)  # others take and give meanwhile
    assert system["kernel"] == output("uname", "-r").strip()
    assert system["python"].endswith(platform.python_version())


def test_versions_come_without_importing_what_they_are_of() -> None:
    program_text = (
        "import json, sys\nfrom benchmarks import host\nfacts = host.describe()\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'tensorrt'} & set(sys.modules)\n"
        "print(json.dumps([facts['packages'], sorted(heavy)]))"
    )
    done = subprocess.run([sys.executable, "-c", program_text], capture_output=True, text=True, cwd=ROOT, check=True)
    packages, imported = json.loads(done.stdout)
    assert imported == []
    import numpy

    assert packages["numpy"] == numpy.__version__


def test_arm_cores_get_their_names_and_only_what_all_of_them_can(tmp_path: Path) -> None:
    boards = recorded("cpuinfo.txt")
    tree(tmp_path, {"proc/cpuinfo": boards["Raspberry Pi 5, without its serial number"]})
    cpu = host.describe(tmp_path)["cpu"]
    assert (cpu["model"], cpu["instruction_sets"]) == ("4 x Cortex-A76", ["asimd", "asimdhp", "asimddp"])
    tree(tmp_path, {"proc/cpuinfo": boards["Jetson TX2, the first four of six cores"]})
    cpu = host.describe(tmp_path)["cpu"]
    assert (cpu["model"], cpu["instruction_sets"]) == ("2 x Cortex-A57 + 2 x NVIDIA Denver 2", ["asimd"])


def test_hyper_threads_are_one_core_and_cores_that_are_off_do_not_count(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    pairs = {f"{cpus}/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}
    tree(tmp_path, {f"{cpus}/online": "0-3", "proc/self/status": "Cpus_allowed_list:\t1,3,5-7", **pairs})
    cpu = host.describe(tmp_path)["cpu"]
    assert (cpu["logical_cores"], cpu["physical_cores"], cpu["allowed_cores"]) == (4, 2, 2)


@pytest.mark.parametrize(
    ("files", "cores", "mib"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5, "no limit"),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",  # the outer limit is the tighter one
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
                "sys/fs/cgroup/a/b/memory.max": 2 << 30,
                "sys/fs/cgroup/a/memory.max": "max",
            },
            2.0,
            2048,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc",  # not there inside the container
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 50000,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 512 << 20,
            },
            0.5,
            512,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n4:memory:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1,
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
            },
            "no limit",
            "no limit",
        ),
    ],
)
def test_a_container_s_limits_are_found_in_both_versions_of_cgroups(
    tmp_path: Path, files: dict[str, str | int], cores: float | str, mib: int | str
) -> None:
    tree(tmp_path, files)
    facts = host.describe(tmp_path)
    assert (facts["cpu"]["quota_cores"], facts["memory"]["limit_mib"]) == (cores, mib)


def test_an_nvidia_gpu_of_a_pc(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", recorded("nvidia-smi.txt")["GeForce RTX 5060 Laptop, driver 595.84"])
    facts = host.describe(tmp_path)
    gpu = facts["gpu"]
    assert (gpu["count"], gpu["compute_capability"], gpu["memory"]) == (1, "12.0", "8151 MiB")
    assert gpu["power_limit"] == "not measured, because nvidia-smi does not tell"
    assert "NVIDIA GeForce RTX 5060 Laptop GPU, compute capability 12.0" in host.table(
        host.rows(host.describe(tmp_path))
    )


def test_a_pc_processor_s_sensors_and_counters(tmp_path: Path) -> None:
    chip(tmp_path, 4, "coretemp", {"temp1_label": "Package id 0", "temp1_input": 52000, "temp2_input": 50000})
    chip(tmp_path, 5, "nvme", {"temp1_input": 71000})  # a disk's heat is no processor's
    throttle = "sys/devices/system/cpu/cpu{}/thermal_throttle/{}_throttle_count"
    counts = {throttle.format(cpu, kind): 3 for cpu in range(2) for kind in ("core", "package")}
    tree(tmp_path, counts)
    facts = host.describe(tmp_path)
    assert facts["temperatures_c"] == {"coretemp Package id 0": 52.0, "coretemp": 50.0}
    assert facts["throttling"]["events"] == {"core thermal": 6, "package thermal": 3}


def test_a_raspberry_pi_tells_what_holds_it_back(tmp_path: Path) -> None:
    program(tmp_path, "vcgencmd", "throttled=0x50005")
    now, since = ["under-voltage", "throttled"], ["under-voltage since the start", "throttled since the start"]
    assert host.describe(tmp_path)["throttling"]["active"] == now + since


def test_a_program_that_hangs_fails_or_is_missing_costs_a_sentence(tmp_path: Path) -> None:
    program(tmp_path, "slow", "begun", then=f"echo $$ > '{tmp_path}/pid'; sleep 60")
    program(tmp_path, "broken", "/home/somebody/.config: no such file", then="exit 3")
    machine = Machine(tmp_path)
    assert fact(machine.run, "slow", timeout=1.0) == "not measured, because slow did not answer within 1 s"
    assert fact(machine.run, "broken") == "not measured, because broken failed with exit code 3"
    assert fact(machine.run, "missing") == "not measured, because missing is not there"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_files_that_cannot_be_read_or_hold_nonsense(tmp_path: Path) -> None:
    tree(tmp_path, {"sys/a": "12 uV", "sys/b/c": 1})
    machine = Machine(tmp_path)
    assert fact(machine.number, "sys/a") == "not measured, because /sys/a holds no number"
    assert fact(machine.text, "sys/b").startswith("not measured, because /sys/b cannot be read (")
    with pytest.raises(NotMeasured, match=r"/sys/d is not there$"):
        machine.text("sys/d")
    if os.geteuid():
        (tmp_path / "sys/a").chmod(0)
        assert fact(machine.text, "sys/a") == "not measured, because /sys/a can be read by root only"


def test_the_command_prints_markdown_for_people_and_json_for_programs() -> None:
    def output(*options: str) -> str:
        command = [sys.executable, "-m", "benchmarks.host", *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout

    assert output().startswith("# The machine\n") and "## packages" in output()
    assert list(keys(json.loads(output("--json")))) == list(keys(host.describe()))
    assert output("--short").startswith("| the machine | |\n| --- | --- |\n")
