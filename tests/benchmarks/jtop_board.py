"""Runs jetson-stats' real service on a board that is a tree of files, and prints our facts of it as JSON.

    unshare --mount python -m tests.benchmarks.jtop_board TREE

/etc and /sys are TREE's in this mount namespace alone. Two things are not the board's: platform.machine is set to
aarch64, and /proc is the machine's own.
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

GROUP = "jtop:x:4242:"


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def enter(tree: Path) -> None:
    """Replace /etc and /sys by the tree's, /run and the service's folder by empty ones."""
    layers = tree.parent / "layers"
    layers.mkdir()
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "none", str(layers))
    for name in ("upper", "work"):
        (layers / name).mkdir()
    for file in (tree / "etc").iterdir():
        (layers / "upper" / file.name).write_bytes(file.read_bytes())
    (layers / "upper/group").write_text(Path("/etc/group").read_text("utf-8") + GROUP + "\n", "utf-8")
    mount("-t", "overlay", "overlay", "-o", f"lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work", "/etc")
    mount("--bind", str(tree / "sys"), "/sys")
    mount("-t", "tmpfs", "none", "/run")


def main() -> None:
    enter(Path(sys.argv[1]).resolve())
    platform.machine = lambda: "aarch64"
    from jtop.core import config
    from jtop.service import JtopServer

    config.get_config_service = lambda *_: "/run/jtop-config"  # by default a folder of Python's installation
    Path("/run/jtop-config").mkdir()

    from benchmarks.host import accelerator

    server = JtopServer(force=True)
    server.start()
    try:
        from jtop import jtop

        with jtop() as device:
            direct = accelerator.from_jtop(device)
            hardware = device.board["hardware"]
        print(json.dumps({"jetson": accelerator.jetson(), "direct": direct, "hardware": hardware}))
    finally:
        server.close()


if __name__ == "__main__":
    main()
