"""Run Shrike's runtime for ARM in qemu's user emulation, and compare its scores with this machine's.

    python -m scripts.arm64                         # the Python of this machine's Debian or Ubuntu
    python -m scripts.arm64 --python 3.10           # JetPack 6's, cross-compiled
    python -m scripts.arm64 --cpu cortex-a72        # without dot products

Needs qemu-user-static and apt-get; root rights, a chroot and binfmt are not needed. docs/arm.md lists results.
The emulator's speed says nothing about a board's.
"""

import json
import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import soundfile

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

ROOT = Path(__file__).resolve().parent.parent
CLIPS = [str(path) for path in sorted((ROOT / "runtime/sources/demo").glob("*.flac"))]
PLATFORMS = [f"{name}_aarch64" for name in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")]
# Differences of log-likelihood ratios between processors: the last bit of a float operation may become a whole step of
# the quantisation that follows. The encoder of `accurate` has the most float operations.
TOLERANCE = {"edge": 0.005, "f0": 0.005, "accurate": 0.05}


@dataclass(frozen=True)
class Options:
    """Compare the scores of an emulated ARM processor with this machine's."""

    python: Literal["3.10", "3.12"] | None = None
    """JetPack 6's or JetPack 7's, both cross-compiled; default: the one of this machine's release."""
    cpu: str = "cortex-a76"
    """Processor of qemu: cortex-a72 has no dot products, cortex-a76 has them, max has i8mm."""
    onnxruntime: str = "1.23.2"
    """ONNX Runtime's version for ARM. qemu 7.2 crashes with 1.32, which qemu 10 runs."""
    folder: Path = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "shrike-arm64"
    """Where roots and wheels are unpacked, and found again."""


@dataclass(frozen=True)
class Machine:
    """An emulated ARM processor with a Python and the runtime's packages."""

    options: Options
    cpu: str = ""  # in place of the option's
    packages_of_root: tuple[str, ...] = ()  # Debian's, beyond what the runtime needs

    @cached_property
    def emulator(self) -> str:
        for name in ("qemu-aarch64-static", "qemu-aarch64"):
            if found := shutil.which(name):
                return found
        raise ShrikeError("qemu-aarch64-static is missing: sudo apt install qemu-user-static")

    @cached_property
    def root(self) -> Path:
        return self.options.folder / "-".join([f"root{self.options.python or ''}", *self.packages_of_root])

    @cached_property
    def python(self) -> Path:
        """The interpreter; a root without one is made first."""
        if not (found := self._interpreters()):
            command = [str(ROOT / "scripts/arm64_root.sh"), str(self.root), self.options.python or ""]
            command += self.packages_of_root
            if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
                raise ShrikeError(f"{' '.join(command)} failed: its last lines say why")
            found = self._interpreters()
        return found[0]

    def _interpreters(self) -> list[Path]:
        return [path for path in self.root.glob("usr/bin/python3.*") if path.name[8:].replace(".", "").isdigit()]

    @cached_property
    def packages(self) -> Path:
        """Folder of the wheels that pip installs on such a machine."""
        version = self.python.name.removeprefix("python")
        site = self.options.folder / f"packages{version}-{self.options.onnxruntime}"
        if site.is_dir():
            return site
        from packaging.requirements import Requirement

        setup, target = ConfigParser(), {"python_version": version}
        setup.read(ROOT / "setup.cfg", "utf-8")
        wanted = [Requirement(line) for line in setup["options"]["install_requires"].strip().splitlines()]
        names = [
            f"{each.name}{each.specifier}" for each in wanted if each.marker is None or each.marker.evaluate(target)
        ]
        names.append(f"onnxruntime=={self.options.onnxruntime}")
        # pip evaluates markers for the Python that it runs in.
        host = shutil.which(f"python{version}") or sys.executable
        command = [host, "-m", "pip", "install", "-qq", "--root-user-action", "ignore", "--only-binary", ":all:"]
        command += ["--target", f"{site}.part"]
        command += ["--python-version", version, "--implementation", "cp"]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        if subprocess.run([*command, *names], env=clean()).returncode:
            raise ShrikeError(f"pip found no wheels for aarch64 and Python {version}: its message stands above")
        return Path(f"{site}.part").rename(site)

    def command(self, *words: str, log: Path | None = None) -> list[str]:
        """Return the command line of this machine's Python; `log` receives the code that qemu translates."""
        logged = ["-d", "in_asm", "-D", str(log)] if log else []
        environment = {"PYTHONPATH": f"{ROOT}:{self.packages}", "PYTHONHOME": str(self.root / "usr")}
        settings = [f"{name}={value}" for name, value in (_threads() | environment).items()]
        emulator = [self.emulator, *logged, "-L", str(self.root), "-cpu", self.cpu or self.options.cpu]
        return ["nice", "-n", "10", "env", *settings, *emulator, str(self.python), *words]

    def __str__(self) -> str:
        code = "import platform, onnxruntime as o; print('Python', platform.python_version(), platform.machine(), "
        done = subprocess.run(
            self.command("-c", code + "'ONNX Runtime', o.__version__)"), capture_output=True, text=True, env=clean()
        )
        if done.returncode:
            raise ShrikeError(f"qemu's Python does not import onnxruntime: {done.stderr.strip()[-300:]}")
        return f"{done.stdout.strip()}, {self.cpu or self.options.cpu}"


def _threads() -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1", "PYTHONWARNINGS": "ignore"}


def clean() -> dict[str, str]:
    """The environment without settings for this machine's Python and OpenBLAS."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENBLAS"))}


TABLE = "TABLE"  # replaced with the path of a new file

RUNS: dict[str, tuple[str, list[str]]] = {
    "stream --demo": ("edge", ["-m", "runtime.stream", "--demo", "--json"]),
    "stream --stdin": ("f0", ["-m", "runtime.stream", "--stdin", "--json", "--step", "60", "--model", "f0"]),
} | {
    f"scan --model {model}": (
        model,
        ["-m", "runtime.scan", *CLIPS, "--workers", "1", "--json", TABLE, "--model", model],
    )
    for model in TOLERANCE
}


def results(command: list[str], clip: str = CLIPS[0]) -> tuple[list[float], list[str]]:
    """Run a command of RUNS, `clip` on its standard input; return the log-likelihood ratios and states it prints."""
    sound = soundfile.read(clip, dtype="int16")[0].tobytes()
    with TemporaryDirectory() as folder:
        table = Path(folder, "table.jsonl")
        command = [str(table) if word == TABLE else word for word in command]
        done = subprocess.run(command, input=sound, capture_output=True, cwd=ROOT, env=clean() | _threads())
        output = table.read_bytes() if table.exists() else done.stdout
    if done.returncode:
        raise ShrikeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return scores(output)


def scores(output: bytes) -> tuple[list[float], list[str]]:
    """The log-likelihood ratios and states of JSON lines."""
    rows = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    judged = [row for row in rows if row.get("llr") is not None]
    return [row["llr"] for row in judged], [row["state"] for row in judged]


def main() -> int:
    options = parse(Options, "scripts.arm64", __doc__)
    machine = Machine(options)
    print(machine, flush=True)
    print(f"\n| {'run':21} | model    | scores | largest difference of LLR | allowed |")
    print("| --- | --- | ---: | ---: | ---: |")
    failed = False
    for name, (model, words) in RUNS.items():
        here, states = results([sys.executable, *words])
        there, others = results(machine.command(*words))
        if not here or len(here) != len(there):
            raise ShrikeError(f"{name}: {len(there)} scores on ARM, {len(here)} here")
        most = float(np.abs(np.subtract(here, there)).max())
        good = most <= TOLERANCE[model] and states == others
        failed |= not good
        note = "" if good else "  FAILED" if states == others else "  FAILED: other states"
        print(f"| {name:21} | {model:8} | {len(here):6} | {most:25.1e} | {TOLERANCE[model]:7} |{note}", flush=True)
    return int(failed)


if __name__ == "__main__":
    run(main)
