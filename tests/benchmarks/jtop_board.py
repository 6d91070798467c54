"""Runs jetson-stats' real service on a board that is a tree of files, and prints our facts of it as JSON.

    unshare --mount python -m tests.benchmarks.jtop_board TREE

/etc, /usr/bin and /sys are TREE's in this mount namespace alone. Two things are not the board's: platform.machine is
set to aarch64, and /proc is the machine's own.
"""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

GROUP = "jtop:x:4242:"


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def enter(tree: Path) -> None:
    """Add the tree's files to /etc and /usr/bin, replace /sys by its own and /run by an empty folder."""
    layers = tree.parent / "layers"
    layers.mkdir()
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "none", str(layers))
    (tree / "etc/group").write_text(Path("/etc/group").read_text("utf-8") + GROUP + "\n", "utf-8")
    for folder in ("etc", "usr/bin"):
        upper, work = layers / folder / "upper", layers / folder / "work"
        shutil.copytree(tree / folder, upper)
        work.mkdir()
        mount("-t", "overlay", "none", "-o", f"lowerdir=/{folder},upperdir={upper},workdir={work}", f"/{folder}")
    mount("--bind", str(tree / "sys"), "/sys")
    mount("-t", "tmpfs", "none", "/run")


def main() -> None:
    enter(Path(sys.argv[1]).resolve())
    platform.machine = lambda: "aarch64"
    from jtop.core import config
    from jtop.service import JtopServer

    config.get_config_service = lambda *_: "/run/jtop-config"  # by default a folder of Python's installation
    Path("/run/jtop-config").mkdir()

    from benchmarks.host import accelerator, facts
    from benchmarks.host.watch import PowerMeter

    server = JtopServer(force=True)
    server.start()
    try:
        from jtop import jtop

        with jtop() as device:
            direct = accelerator.from_jtop(device)
            hardware, milliwatts = device.board["hardware"], device.power["tot"]["power"]
            celsius = {name: zone["temp"] for name, zone in device.temperature.items() if zone["online"]}
        print(json.dumps({
            "jetson": accelerator.jetson(), "direct": direct, "hardware": hardware, "state": facts.state(),
            "watts": PowerMeter().watts(), "jtop": {"milliwatts": milliwatts, "celsius": celsius},
        }))  # fmt: skip
    finally:
        server.close()


if __name__ == "__main__":
    main()
