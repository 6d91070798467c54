"""Show which kernels ONNX Runtime takes for the embedded INT8 models on ARM processors, emulated by qemu.

    python -m scripts.arm64_kernels
    python -m scripts.arm64_kernels --models edge --cpus cortex-a72 cortex-a76

Two tables a model. Instructions: places in ONNX Runtime's code with an integer or float multiplication that ran, from
qemu's log. Milliseconds by operator: from ONNX Runtime's profile. The emulator's time only compares processors: an
operator that takes as long with dot products as without has no kernel for them.
"""

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from runtime.engines.model_loader import find_model
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from scripts.arm64 import ROOT, TOLERANCE, Machine, clean
from scripts.arm64 import Options as MachineOptions

# Encodings as value and mask (Arm Architecture Reference Manual, C4.1: SIMD three same, by element).
INSTRUCTIONS = {
    "smull, umull, smlal, umlal (16-bit products)": [(0x0E208000, 0x9F20FC00), (0x0E20C000, 0x9F20FC00)],
    "sdot (dotprod)": [(0x0E809400, 0xBFE0FC00), (0x0F80E000, 0xBFC0F400)],
    "udot (dotprod)": [(0x2E809400, 0xBFE0FC00), (0x2F80E000, 0xBFC0F400)],
    "smmla (i8mm)": [(0x4E80A400, 0xFFE0FC00)],
    "ummla (i8mm)": [(0x6E80A400, 0xFFE0FC00)],
    "fmla (float)": [(0x0E20CC00, 0xBFA0FC00), (0x0F801000, 0xBF80F400)],
}
TRANSLATED = re.compile(r"0x([0-9a-f]+):  ([0-9a-f]{8}) ")
ROUNDS = 3  # of which each node's fastest counts


@dataclass(frozen=True)
class Options:
    """Show the kernels of emulated ARM processors."""

    models: tuple[str, ...] = tuple(TOLERANCE)
    """Embedded models, or paths of ONNX files."""
    cpus: tuple[str, ...] = ("cortex-a72", "cortex-a76", "max")
    """Processors of qemu."""
    machine: MachineOptions = field(default_factory=MachineOptions)
    """Python and packages of the emulated machine; its --machine.cpu is not used."""


def instruction(word: int) -> str | None:
    """Name the multiply instruction that a word encodes."""
    for name, encodings in INSTRUCTIONS.items():
        if any(word & mask == value for value, mask in encodings):
            return name
    return None


def profile(model: str) -> None:
    """Run a model on noise; print the library's address range and milliseconds by operator as JSON."""
    import onnxruntime

    kinds = {
        "float": np.float32,
        "uint8": np.uint8,
        "int8": np.int8,
        "int32": np.int32,
        "int64": np.int64,
        "bool": bool,
    }
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_profiling, options.log_severity_level = 1, True, 3
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(find_model(model)), options)
        dice, feeds = np.random.default_rng(0), {}
        for tensor in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in tensor.shape]
            feeds[tensor.name] = dice.normal(-8, 4, shape).astype(kinds[tensor.type[7:-1]])
        for _ in range(ROUNDS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    fastest: dict[tuple[str, str], float] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            node = event["args"]["op_name"], event["name"]
            fastest[node] = min(event["dur"] / 1000, fastest.get(node, np.inf))
    operators: dict[str, float] = {}
    for (operator, _), milliseconds in fastest.items():
        operators[operator] = operators.get(operator, 0) + milliseconds
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "onnxruntime_pybind11" in line]
    addresses = [int(end, 16) for line in maps for end in line.split()[0].split("-")]
    print(json.dumps({"library": [min(addresses), max(addresses)], "operators": operators}))


def observe(machine: Machine, model: str) -> tuple[Counter[str], dict[str, float]]:
    """Count multiply instructions that ran at least once, and time operators, on one emulated processor."""
    code = f"from scripts.arm64_kernels import profile; profile({model!r})"
    with TemporaryDirectory() as folder:
        log = Path(folder, "code.log")
        outputs = []
        for command in (machine.command("-c", code), machine.command("-c", code, log=log)):  # the log slows it down
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=clean())
            if done.returncode:
                raise ShrikeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-300:]}")
            outputs.append(json.loads(done.stdout))
        first, last = outputs[1]["library"]
        seen = {}
        with log.open(errors="replace") as lines:
            for line in lines:
                if found := TRANSLATED.match(line):
                    address = int(found[1], 16)
                    if first <= address < last and (name := instruction(int(found[2], 16))):
                        seen[address] = name
    return Counter(seen.values()), outputs[0]["operators"]


def main() -> None:
    options = parse(Options, "scripts.arm64_kernels", __doc__)
    for model in options.models:
        columns = [observe(Machine(options.machine, cpu), model) for cpu in options.cpus]
        print(f"\n| {model}: instructions | {' | '.join(options.cpus)} |\n| --- |{' ---: |' * len(columns)}")
        for name in INSTRUCTIONS:
            print(f"| {name} | {' | '.join(str(counts[name] or '-') for counts, _ in columns)} |")
        print(f"\n| {model}: milliseconds, emulated | {' | '.join(options.cpus)} |\n| --- |{' ---: |' * len(columns)}")
        last = columns[-1][1]
        for name in sorted(last, key=lambda name: -last[name])[:10]:
            print(f"| {name} | {' | '.join(f'{times.get(name, 0):.1f}' for _, times in columns)} |")
        print(f"| all | {' | '.join(f'{sum(times.values()):.1f}' for _, times in columns)} |", flush=True)


if __name__ == "__main__":
    run(main)
