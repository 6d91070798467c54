"""The emulation of ARM covers every embedded model, and its log's words are read as the assembler writes them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.engines.model_loader import MODELS
from scripts.arm64 import RUNS, TOLERANCE
from scripts.arm64_kernels import INSTRUCTIONS, instruction

# One instruction of every kind and form that the kernels use, and some that are not counted.
ASSEMBLY = {
    "smull v0.8h, v1.8b, v2.8b": "smull",
    "umlal2 v0.4s, v1.8h, v2.8h": "smull",
    "sdot v3.4s, v7.16b, v9.16b": "sdot",
    "sdot v16.4s, v4.16b, v0.4b[3]": "sdot",
    "udot v3.2s, v7.8b, v9.8b": "udot",
    "udot v31.4s, v4.16b, v15.4b[0]": "udot",
    "smmla v0.4s, v1.16b, v2.16b": "smmla",
    "ummla v0.4s, v1.16b, v2.16b": "ummla",
    "fmla v0.4s, v1.4s, v2.4s": "fmla",
    "fmla v0.4s, v1.4s, v2.s[1]": "fmla",
    "add v0.4s, v1.4s, v2.4s": "",
    "mul v0.8h, v1.8h, v2.8h": "",
    "saddl v0.8h, v1.8b, v2.8b": "",
    "add x0, x1, x2": "",
}


def test_every_embedded_model_runs() -> None:
    embedded = {path.stem for path in MODELS.glob("*.onnx")}
    assert set(TOLERANCE) == embedded == {model for model, _ in RUNS.values()}


@pytest.mark.skipif(not shutil.which("aarch64-linux-gnu-as"), reason="needs gcc-aarch64-linux-gnu")
def test_instructions_are_recognised(tmp_path: Path) -> None:
    source, result, words = tmp_path / "all.s", tmp_path / "all.o", tmp_path / "all.bin"
    source.write_text("\n".join(ASSEMBLY) + "\n")
    subprocess.run(["aarch64-linux-gnu-as", "-march=armv8.6-a", str(source), "-o", str(result)], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", str(result), str(words)], check=True)
    data = words.read_bytes()
    assert len(data) == 4 * len(ASSEMBLY)
    for place, (line, expected) in enumerate(ASSEMBLY.items()):
        found = instruction(int.from_bytes(data[4 * place : 4 * place + 4], "little"))
        assert (found or "").split(",")[0].split(" ")[0] == expected, line
    assert {expected for expected in ASSEMBLY.values() if expected} == {
        name.split(",")[0].split(" ")[0] for name in INSTRUCTIONS
    }
