"""The console command: `shrike COMMAND ...` runs the same modules as `python -m`.

    shrike stream --demo
    shrike export-onnx model.pt --help

A folder with a train.py or export/ of its own shadows `python -m train`, but not `shrike train`.
"""

import importlib
import sys

from runtime import __version__
from runtime.support.command import run
from runtime.support.errors import ShrikeError
from runtime.support.extras import DISTRIBUTION
from runtime.support.suggestions import nearest

# Modules are named, not imported: `runtime` depends on none of them, and help stays fast.
COMMANDS = {
    "stream": ("runtime.stream", "verdicts for a microphone, files, a pipe or a demo"),
    "scan": ("runtime.scan.__main__", "one verdict a file, for files and folders; tables, exit codes for scripts"),
    "serve": ("runtime.serve.__main__", "verdicts over HTTP and WebSocket, a page for a browser, metrics"),
    "service": ("runtime.service.__main__", "install, show or remove the systemd unit of a stream"),
    "train": ("train.__main__", "train a network on a corpus"),
    "score": ("train.score", "score a corpus with a checkpoint"),
    "average": ("train.average", "the mean of a model and its fine-tuned form"),
    "teach": ("train.teach", "soft labels of training clips by models that were trained without their sources"),
    "vocode": ("train.vocode", "vocoded copies of a corpus's real clips, as fakes for training"),
    "export-onnx": ("export.onnx", "write model.onnx and model.json: calibrated, quantised, verified"),
    "export-trt": ("export.trt", "build a TensorRT engine on this device"),
    "export-triton": ("export.triton.__main__", "write models into a repository of NVIDIA Triton"),
    "bench-latency": ("benchmarks.latency.__main__", "latency, memory and size of models on this machine"),
    "bench-accuracy": ("benchmarks.accuracy.__main__", "EER and calibration of models on a corpus"),
    "bench-stream": ("benchmarks.stream.__main__", "latency and endurance of a whole stream"),
    "bench-training": ("benchmarks.training", "speed of training on this machine"),
    "compare": ("benchmarks.compare", "compare the reports of two runs"),
    "report": ("benchmarks.report.__main__", "show reports, or copy their tables into Markdown"),
    "sharpness": ("benchmarks.sharpness", "sharpness of a checkpoint's minimum"),
    "host": ("benchmarks.host.__main__", "facts of this machine that decide timings"),
}


def main() -> None:
    """Run the subcommand that the command line names, and leave with its exit code."""
    run(_main)


def _main() -> int | None:
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: shrike COMMAND [--help] ...\n")
        print(*(f"  {command:{width}}  {text}" for command, (_, text) in COMMANDS.items()), sep="\n")
        return 0
    if name == "--version":
        print(DISTRIBUTION, __version__)
        return 0
    if name not in COMMANDS:
        raise ShrikeError(f"{name}: expected one of {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    sys.argv = [f"shrike {name}", *rest]
    code: int | None = importlib.import_module(COMMANDS[name][0]).main()
    return code
