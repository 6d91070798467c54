"""What real machines printed, and trees of files in which a made one stands.

recorded("nvpmodel.txt")["AGX Thor, JetPack 7"]     # "NV Power Mode: MAXN\\n0"
tree(tmp_path, {"proc/loadavg": "0.10 0.20 0.30 1/99 7"})
program(tmp_path, "nvpmodel", "NV Power Mode: MAXN\\n0")
"""

from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("recorded")


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
