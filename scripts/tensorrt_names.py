"""Import NVIDIA's bindings of TensorRT versions, without TensorRT itself, and compare their names with our table.

    python -m scripts.tensorrt_names                          # 10.3.0, 10.16.1 and 11.4.0
    python -m scripts.tensorrt_names --versions 11.4.0

The bindings are a small wheel of the package index. Empty functions take the place of the libraries that they link, so
that classes, methods and enumerations can be read, but nothing can be built. tests/export/tensorrt-api.tsv has the
names that our sources use; tests/export/test_tensorrt_contract.py compares the sources with it. Needs pip, readelf, cc.
"""

import csv
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

TABLE = Path(__file__).parents[1] / "tests" / "export" / "tensorrt-api.tsv"
PACKAGES = {"10": "tensorrt_cu12_bindings", "11": "tensorrt_cu13_bindings"}  # by TensorRT's major version
PRINT_NAMES = """
import sys
sys.path.insert(0, sys.argv[1])
import tensorrt_bindings.tensorrt as trt
def find(name):
    value = trt
    for part in name.split("."):
        value = getattr(value, part, None)
    return value is not None
for name in sys.stdin.read().split():
    print(name, int(find(name)))
"""


@dataclass(frozen=True)
class Options:
    """Compare the names of TensorRT's bindings with our table."""

    versions: tuple[str, ...] = ()
    """Columns of the table; by default all that the index has for this Python."""


def main() -> int:
    options = parse(Options, "scripts.tensorrt_names", __doc__)
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    known = [column for column in rows[0] if column.partition(".")[0] in PACKAGES]
    if unknown := sorted(set(options.versions) - set(known)):
        raise ShrikeError(f"--versions {unknown[0]}: expected {', '.join(known)}")
    faults = 0
    for version in options.versions or known:
        with tempfile.TemporaryDirectory() as folder:
            there = read_names(version, [row["name"] for row in rows], Path(folder))
        wrong = [row["name"] for row in rows if there[row["name"]] != (row[version] == "1")]
        faults += len(wrong)
        print(f"{version}: {len(rows)} names, {len(wrong)} differ from the table" + "".join(f"\n  {n}" for n in wrong))
    return 3 if faults else 0


def read_names(version: str, names: list[str], folder: Path) -> dict[str, bool]:
    """Download the bindings, import them, and look the names up."""
    package = f"{PACKAGES[version.partition('.')[0]]}=={version}.*"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--only-binary=:all:",
        "-d",
        str(folder),
        package,
    ]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        raise ShrikeError(f"{package}: pip cannot download it for Python {sys.version.split()[0]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    (module,) = (folder / "site" / "tensorrt_bindings").glob("tensorrt*.so")
    write_stubs(module, folder)
    command = [sys.executable, "-c", PRINT_NAMES, str(folder / "site")]
    found = subprocess.run(
        command, input="\n".join(names), capture_output=True, text=True, check=False,
        env={"LD_LIBRARY_PATH": str(folder)},
    )  # fmt: skip
    if found.returncode:
        raise ShrikeError(f"{package} cannot be imported: {found.stderr.strip().splitlines()[-1]}")
    return {name: value == "1" for name, value in (line.split() for line in found.stdout.splitlines())}


def write_stubs(module: Path, folder: Path) -> None:
    """Make the NVIDIA libraries that the module links, with its undefined symbols as empty functions."""
    symbols, needed = (
        subprocess.run(["readelf", "-W", option, str(module)], capture_output=True, text=True, check=True).stdout
        for option in ("--dyn-syms", "-d")
    )
    fields = [line.split() for line in symbols.splitlines()]
    missing = [part[7] for part in fields if len(part) >= 8 and part[6] == "UND" and "@" not in part[7]]
    source = folder / "stubs.c"
    source.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in missing if not name.startswith("Py")))
    for line in needed.splitlines():
        if "NEEDED" in line and "libnv" in line:
            name = line.partition("[")[2].rstrip("]")
            command = ["cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    run(main)
