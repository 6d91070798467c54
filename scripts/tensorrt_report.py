"""Build TensorRT engines of exported models on this machine's GPU, compare them with ONNX Runtime, and time them.

    python -m scripts.tensorrt_report trials report --seconds 900
    python -m scripts.tensorrt_report trials report --precisions int8 --most 64

`trials` is a folder of scripts.tensorrt_trials. First all engines are built, several at once; then each is measured.
The folder `report` gets results.json and results.md after every row, so an interrupted run keeps what it has, and the
same command goes on with what is missing. Rows come in the order of the models: engines for one window or stream,
trained models first, then engines for a batch. A build's log has TensorRT's own messages with their time.

    agreement   logits of all trials against ONNX Runtime's, of the same ONNX file on a CPU; states by the card's map
    latency     host to host, as trtexec measures it: copy in, compute, copy out; CUDA graph on, off, and PyCUDA
    batch       of the engine for 1 to `most`: calls of 1, 4, 16, ... windows or streams
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from export.tensorrt.builder import BuildOptions, build_plan
from export.tensorrt.check import check, read_onnx
from runtime.card.model_card import Precision
from runtime.engines.cuda import LIBRARIES, open_cuda
from runtime.engines.jetpack import load_tensorrt
from runtime.engines.tensorrt import error_logger
from runtime.support.atomic import atomic_file
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from scripts.tensorrt_rows import CASES, Job, measure_batch, measure_one
from train.progress import say

MANIFEST = "models.json"  # name -> trained, or random weights
BUILD_SHARE = 0.5  # of --seconds, after which no further engine is awaited
DRIVER = Path("/proc/driver/nvidia/version")
LONGEST = 400  # characters of an error
ATTEMPTS = 2  # at an engine that ends the process


@dataclass(frozen=True)
class Options:
    """Measure engines on this machine's GPU."""

    trials: tyro.conf.Positional[Path]
    """Folder of scripts.tensorrt_trials."""
    out: tyro.conf.Positional[Path]
    """Folder of engines, results.json and results.md."""
    seconds: float = 900.0
    """Time for everything; rows that would begin later are left out."""
    precisions: tuple[Precision, ...] = ("int8", "fp16", "fp32")
    """Number formats."""
    most: int = 256
    """Largest batch of the engines for a batch; 1 leaves them out."""
    duration: float = 0.5
    """Seconds of counted runs of each case; trtexec takes 3."""
    builders: int = 6
    """Engines that are built at once; 1 for the undisturbed duration of a build, 0 to measure those that are built."""
    pycuda: bool = True
    """Measure PyCUDA as well."""
    workspace: int = 1024
    """MiB of scratch memory for a layer."""
    build: str | None = None
    """Build the engine of this name and exit; the report starts such processes itself."""


@dataclass
class Results:
    """Rows by the engine's name, written after every change."""

    folder: Path
    machine: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self) -> None:
        text = json.dumps({"machine": self.machine, "rows": self.rows}, indent=1) + "\n"
        for name, content in (("results.json", text), ("results.md", markdown(self))):
            with atomic_file(self.folder / name) as temporary:
                temporary.write_text(content)


def main() -> None:
    options, began = parse(Options, "scripts.tensorrt_report", __doc__), time.monotonic()
    if not (options.trials / MANIFEST).is_file():
        raise ShrikeError(f"{options.trials}: no {MANIFEST}; expected a folder of scripts.tensorrt_trials")
    options.out.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, str] = json.loads((options.trials / MANIFEST).read_text())
    wanted = jobs(options, kinds)
    if options.build:
        build(options, next(job for job in wanted if job.name == options.build))
        return
    results = Results(options.out, describe_machine(options))
    say("; ".join(f"{name}: {value}" for name, value in results.machine.items()))
    if (options.out / "results.json").is_file():
        results.rows = json.loads((options.out / "results.json").read_text())["rows"]
    for row in results.rows.values():
        if row.pop("running", False) and row["attempts"] >= ATTEMPTS:
            row["error"] = "the process ended while this engine was measured"
    new = [job for job in wanted if not results.rows.get(job.name, {}).keys() & {"trials", "error"}]
    missing = [job for job in new if not record_path(options, job).is_file()]
    faults = build_all(options, missing, began + BUILD_SHARE * options.seconds) if options.builders else {}
    results.machine["engines built after s"] = round(time.monotonic() - began, 1)
    for job in new:
        row = results.rows.setdefault(job.name, job._asdict() | {"weights": kinds[job.model]})
        if job.name in faults:
            row["error"] = faults[job.name]
        elif record_path(options, job).is_file():
            row |= json.loads(record_path(options, job).read_text())
    results.write()
    for job in new:
        row = results.rows[job.name]
        if "build s" not in row or time.monotonic() - began > options.seconds:
            continue
        row |= {"running": True, "attempts": row.get("attempts", 0) + 1}
        results.write()
        plan = (options.out / f"{job.name}.engine").read_bytes()
        cases = tuple(name for name, (library, _) in CASES.items() if options.pycuda or library != "pycuda")
        try:
            if job.streams == 1:
                row |= measure_one(options.trials, job, plan, options.duration, cases)
            else:
                row |= measure_batch(options.trials, job, plan, options.duration)
        except Exception as error:  # the other rows matter more than this one
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]
        del row["running"]
        say(f"{time.monotonic() - began:.0f} s: {job.name}: {row.get('error', 'measured')}")
        results.write()
    print(options.out / "results.md")


def jobs(options: Options, kinds: dict[str, str]) -> list[Job]:
    """List all engines in the order of their importance."""
    found = []
    for kind in dict.fromkeys(kinds.values()):
        models = [name for name in kinds if kinds[name] == kind]
        found += [Job(name, precision, 1) for precision in options.precisions for name in models]
        if options.most > 1:
            batches = options.precisions[: 2 if kind == "trained" else 1]
            found += [Job(name, precision, options.most) for precision in batches for name in models]
    return found


def describe_machine(options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {"TensorRT": load_tensorrt().__version__}
    for package in LIBRARIES:
        try:
            cuda = open_cuda(package)
            found |= {"GPU": f"{cuda.gpu} (compute capability {cuda.capability})", package: cuda.library}
            found["waiting"] = cuda.waiting
            cuda.close()
        except ShrikeError as error:
            found[package] = str(error)
    if DRIVER.is_file():
        found["driver"] = DRIVER.read_text().split("\n")[0]
    found |= {"Python": sys.version.split()[0], "CPU cores": os.cpu_count(), "engines built at once": options.builders}
    return found


# ---- building


def record_path(options: Options, job: Job) -> Path:
    return options.out / f"{job.name}.build.json"


def build(options: Options, job: Job) -> None:
    """Build one engine, and write its seconds."""
    trt, path = load_tensorrt(), job.onnx(options.trials)
    graph = read_onnx(path)
    check(graph, path.name, trt.__version__)
    say(f"{path.name}, {job.precision}, 1 to {job.streams}: TensorRT {trt.__version__}, building")
    began = time.monotonic()
    logger = log_messages(error_logger(trt), began)
    plan = build_plan(trt, graph, BuildOptions(job.precision, options.workspace, None, job.streams), logger)
    seconds = time.monotonic() - began
    with atomic_file(options.out / f"{job.name}.engine") as temporary:
        temporary.write_bytes(plan)
    record_path(options, job).write_text(json.dumps({"build s": seconds, "engine MB": len(plan) / 1e6}))


def log_messages(logger: Any, began: float) -> Any:
    """Print all messages of a TensorRT logger with the seconds since `began`."""
    keep = type(logger).log

    def log(self: Any, severity: Any, message: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {severity.name} {message[:LONGEST]}", flush=True)
        keep(self, severity, message)

    type(logger).log = log
    return logger


def build_all(options: Options, wanted: Sequence[Job], until: float) -> dict[str, str]:
    """Build in several processes until a time; return the errors by name."""
    waiting, running, faults = list(wanted), dict[Job, subprocess.Popen[bytes]](), dict[str, str]()
    words = ["--workspace", str(options.workspace), "--most", str(options.most), "--precisions", *options.precisions]
    command = [sys.executable, "-m", "scripts.tensorrt_report", str(options.trials), str(options.out), *words]
    while (waiting or running) and time.monotonic() < until:
        while waiting and len(running) < options.builders:
            job = waiting.pop(0)
            with open(options.out / f"{job.name}.log", "wb") as log:
                running[job] = subprocess.Popen([*command, "--build", job.name], stdout=log, stderr=log)
        for job, process in list(running.items()):
            if (code := process.poll()) is None:
                continue
            del running[job]
            if code:
                log_text = (options.out / f"{job.name}.log").read_text(errors="replace")
                faults[job.name] = f"exit {code}: {' '.join(log_text.split())[-LONGEST:]}"
            say(f"{job.name}: {faults.get(job.name, 'built')}")
        time.sleep(0.05)
    for job, process in running.items():
        process.kill()
        process.wait()
        say(f"{job.name}: not built in time")
    return faults


# ---- tables


def markdown(results: Results) -> str:
    """Machine, engines for one, engines for a batch."""
    lines = [f"{name}: {value}  " for name, value in results.machine.items()]
    head = ["model", "weights", "precision", "build s", "MB", "INT8 layers", "logits: largest difference", "decision"]
    head += ["state", *(f"{name} {p}" for name in CASES for p in ("p50", "p99")), "compute"]
    lines += ["", "Engines for one window or stream; times in ms.", "", line(head), line(["---"] * len(head))]
    for row in results.rows.values():
        if row["streams"] == 1:
            lines.append(line([row["model"], row["weights"], row["precision"], *one_row(row)]))
    lines += ["", "Engines for a batch: ms of a call, and windows or steps of streams in a second."]
    for row in results.rows.values():
        if row["streams"] > 1:
            lines += batch_rows(row)
    return "\n".join(lines) + "\n"


def one_row(row: dict[str, Any]) -> list[str]:
    if "GPU" not in row:
        return [row.get("error", "not measured")]
    layers = row["layers"] or {"int8": 0, "float": 0, "opaque": 0}
    opaque = f" + {layers['opaque']} opaque" if layers["opaque"] else ""
    times = [f"{row[name][p]:.3f}" if name in row else "" for name in CASES for p in ("p50", "p99")]
    return [
        f"{row['build s']:.1f}",
        f"{row['engine MB']:.2f}",
        f"{layers['int8']} of {layers['int8'] + layers['float']}{opaque}",
        f"{row['largest difference']:.2g}",
        f"{row['same decision']:.2%}",
        f"{row['same state']:.2%}",
        *times,
        f"{row['GPU']['compute']:.3f}",
    ]


def batch_rows(row: dict[str, Any]) -> list[str]:
    title = f"{row['model']} ({row['weights']}), {row['precision']}, 1 to {row['streams']}"
    if "batches" not in row:
        return ["", f"{title}: {row.get('error', 'not measured')}"]
    built = f"built in {row['build s']:.1f} s, {row['engine MB']:.2f} MB"
    lines = ["", f"{title}: {built}; largest difference of logits {row['largest difference']:.2g}", ""]
    lines += [line(["batch", "p50 ms", "p99 ms", "per second"]), line(["---"] * 4)]
    for count, times in row["batches"].items():
        lines.append(line([count, f"{times['p50']:.3f}", f"{times['p99']:.3f}", f"{times['per second']:.0f}"]))
    return lines


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)
