"""Copy ONNX Runtime without its AVX-512 kernels, to measure an AVX2 processor on one that has more.

    python -m scripts.avx2_onnxruntime runs/avx2
    PYTHONPATH=runs/avx2 python -m benchmarks.latency edge accurate

MLAS chooses its kernels once, by CPUID. In the copy the test of AVX-512F's bit finds it missing, so that AVX2's kernels
run; those of AVX-VNNI, an extension of AVX2, go too. Memory, caches and clock remain this machine's.
Checked with ONNX Runtime 1.32 for Linux on x86-64; another build whose code differs is an error.
"""

import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import tyro

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

# cpuid leaf 7.1; test al, 16 (AVX-VNNI); je; ... test r10d, 65536 (AVX-512F of leaf 7.0); je
CHOICE = re.compile(
    rb"\xb9\x01\x00\x00\x00\x0f\xa2\xa8(\x10)\x74.{20,80}?\x41\xf7\xc2(\x00\x00\x01\x00)\x74", re.DOTALL
)


@dataclass(frozen=True)
class Options:
    """Copy ONNX Runtime without its AVX-512 kernels."""

    out: tyro.conf.Positional[Path]
    """Folder of the copy, for PYTHONPATH."""


def main() -> None:
    options = parse(Options, "scripts.avx2_onnxruntime", __doc__)
    found = find_spec("onnxruntime")
    if found is None or found.origin is None:
        raise ShrikeError("onnxruntime is not installed here; expected ONNX Runtime 1.32")
    if (options.out / "onnxruntime").exists():
        raise ShrikeError(f"{options.out}/onnxruntime exists; expected another folder")
    package = Path(found.origin).parent
    library = next(package.glob("capi/onnxruntime_pybind11_state*.so"), None)
    code = library.read_bytes() if library else b""
    places = list(CHOICE.finditer(code))
    if library is None or len(places) != 1:
        raise ShrikeError(f"{library}: {len(places)} places choose MLAS's kernels; expected one, as in 1.32 on x86-64")
    changed = bytearray(code)
    for group in (1, 2):
        first, last = places[0].span(group)
        changed[first:last] = bytes(last - first)
    shutil.copytree(package, options.out / "onnxruntime")
    (options.out / "onnxruntime" / library.relative_to(package)).write_bytes(changed)
    print(options.out)


if __name__ == "__main__":
    run(main)
