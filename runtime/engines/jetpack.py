"""Versions that a Jetson comes with, and advice where TensorRT is missing.

trt = load_tensorrt()       # the module, or a ShrikeError that explains how to install it
l4t()                       # "36.4.3" on a Jetson with JetPack 6.2, None elsewhere
"""

import importlib
import platform
import re
from pathlib import Path
from typing import Any

from runtime.support.errors import ShrikeError

RELEASE = Path("/etc/nv_tegra_release")  # "# R36 (release), REVISION: 4.3, GCID: ..."
MEMORY = Path("/proc/meminfo")

# JetPack, L4T, Python, TensorRT. A row applies to every L4T from its first up to the next row's.
JETPACKS = (
    ("5.1 to 5.1.7", "35.2.1 to 35.6.5", "3.8", "8.5.2"),
    ("6.0", "36.3", "3.10", "8.6.2"),
    ("6.1 to 6.2.3", "36.4 to 36.5", "3.10", "10.3.0"),
    ("7.0, 7.1", "38", "3.12", "10.13"),
    ("7.2 and later", "39", "3.12", "10.16.1, or 11.4.1 if installed"),
)


def l4t(release: Path = RELEASE) -> str | None:
    """Return the version of a Jetson's system; None on other machines."""
    try:
        found = re.search(r"R(\d+)\D+REVISION:\s*([\d.]+)", release.read_text(errors="replace"))
    except OSError:
        return None
    return f"{found[1]}.{found[2]}" if found else None


def jetpack(version: str) -> tuple[str, str, str, str] | None:
    """Return the row of the JetPack to which an L4T version belongs."""

    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(".") if part.isdigit())

    fitting = [row for row in JETPACKS if number(version) >= number(row[1].split(" ")[0])]
    return fitting[-1] if fitting else None


def table() -> str:
    """Format the table of JetPacks."""
    widths = (16, 20, 8, 0)
    rows = (("JetPack", "L4T", "Python", "TensorRT"), *JETPACKS)
    return "\n".join("  " + "".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)


def how_to_get_tensorrt() -> str:
    """Explain how to install TensorRT, which comes with the system and not with pip."""
    version = l4t()
    row = jetpack(version) if version else None
    advice = (
        "pip cannot install a Jetson's TensorRT: it is part of JetPack (sudo apt install nvidia-jetpack) in "
        "/usr/lib/python3*/dist-packages, so a virtual environment needs the system's Python and "
        "--system-site-packages: python3 -m venv --system-site-packages .venv"
    )
    if row is None:
        return f"{advice}\n{table()}"
    if row[2] == "3.8":
        return (
            f"this is JetPack {row[0]} (L4T {version}), whose TensorRT {row[3]} is for Python 3.8; Shrike needs 3.10. "
            "A newer Python (uv venv --python 3.10) runs the ONNX files on the CPU; "
            "trtexec builds an engine for a program of your own"
        )
    mine = ".".join(platform.python_version_tuple()[:2])
    return f"{advice}. This is JetPack {row[0]} (L4T {version}): TensorRT {row[3]} for Python {row[2]}; this is {mine}"


def load_tensorrt() -> Any:
    """Import tensorrt; raise a ShrikeError with installation advice where it is missing or broken."""
    try:
        return importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        reason = "TensorRT is not installed for this Python"
        raise ShrikeError(f"{reason}: {how_to_get_tensorrt()}") from error
    except (ImportError, OSError, AttributeError, RuntimeError) as error:  # libraries of another CUDA
        reason = f"TensorRT cannot be imported ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ShrikeError(f"{reason}: {how_to_get_tensorrt()}") from error


def memory_available(source: Path = MEMORY) -> int | None:
    """Return the available memory in MiB, which a Jetson's GPU shares; None where the kernel does not report it."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", source.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) // 1024 if found else None
