"""Optional packages, and the extra of this distribution that installs each.

plt = require_package("matplotlib.pyplot")     # a ShrikeError with the pip command where it is missing
"""

import importlib
from typing import Any

from runtime.support.errors import ShrikeError

DISTRIBUTION = "shrike-antispoofing"  # the name on the package index; `shrike` there is another project
EXTRAS = {
    "torch": "train", "torchaudio": "train", "tensorboard": "train", "onnx": "onnx", "matplotlib": "plot",
    "safetensors": "train", "psutil": "benchmarks", "pynvml": "benchmarks",
    "uvicorn": "serve", "starlette": "serve", "prometheus_client": "serve", "websockets": "serve",
    "tritonclient": "triton", "grpc": "triton", "google": "triton",
    "distributed": "cluster", "dask": "cluster", "fsspec": "cluster", "aiohttp": "cluster",
    "pyworld": "vocoders", "ai_edge_litert": "vocoders", "scipy": "vocoders",
}  # fmt: skip
OWN = {"train", "export", "benchmarks"}  # packages of ours that a copy of `runtime` alone lacks


def require_package(module: str) -> Any:
    """Import a module of an optional package."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if sentence := explain_missing(error):
            raise ShrikeError(sentence) from error
        raise


def explain_missing(error: ModuleNotFoundError) -> str | None:
    """Return the line with the pip command; None if the module is none of our optional ones."""
    package = (error.name or "").partition(".")[0]
    if package in OWN:
        return f"this command needs {package}, which is not installed here: pip install {DISTRIBUTION}"
    if package in EXTRAS:
        return f"this command needs {package}: pip install '{DISTRIBUTION}[{EXTRAS[package]}]'"
    return None
