"""Other projects' ONNX models, and the memory that a model takes in a process of its own."""

import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Subject, open_bare
from runtime.card.schema import require
from runtime.engines import as_streaming
from runtime.support.errors import ShrikeError
from runtime.support.measure import resident

KINDS = {"float": "float32", "double": "float64"}  # numpy's name by ONNX's, where they differ
LARGEST_INPUT = 1 << 28  # values: a wrong --peer-shape should not fill the memory

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Peer:
    """A session of ONNX Runtime with inputs: noise for floats, 0 and 1 for integers (tokens, kinds, masks)."""

    session: Any
    feeds: dict[str, NDArray[Any]]

    def run(self) -> object:
        return self.session.run(None, self.feeds)


def open_peer(path: Path, threads: int = 1, batch: int = 1, shapes: Shapes | None = None) -> Peer:
    """Open any ONNX file and run it once. Open sizes are `shapes`, else 1, and `batch` in front."""
    peer, shapes, rng = Peer(open_bare(path, threads), {}), shapes or {}, np.random.default_rng(0)
    ports = {port.name: port for port in peer.session.get_inputs()}
    for odd in sorted(set(shapes) - ports.keys()):
        raise ShrikeError(f"--peer-shape {odd}: {path.name} has no such input; it has {', '.join(ports)}")
    for name, port in ports.items():
        kind = port.type.removeprefix("tensor(").removesuffix(")")
        require(
            bool(re.fullmatch(r"float(16)?|double|bool|u?int\d+", kind)), f"{path.name}: input {name} is {port.type}"
        )
        sizes = [size if isinstance(size, int) and size > 0 else None for size in port.shape]
        wanted = list(shapes.get(name, [size or 1 for size in sizes]))
        fits = len(wanted) == len(sizes) and all(size in (None, w) for size, w in zip(sizes, wanted, strict=True))
        given = "x".join(map(str, wanted))
        require(fits and math.prod(wanted) <= LARGEST_INPUT, f"--peer-shape {name}={given}: expected {port.shape}")
        if batch > 1 and wanted:
            require(sizes[0] is None, f"{path.name}: its batch is fixed at {sizes[0]}")
            wanted[0] = batch
        integers = "int" in kind or kind == "bool"
        values = rng.integers(0, 2, wanted) if integers else rng.standard_normal(wanted)
        peer.feeds[name] = np.asarray(values).astype(KINDS.get(kind, kind))
    try:
        peer.run()
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        fed, reason = {name: list(value.shape) for name, value in peer.feeds.items()}, str(error).partition("\n")[0]
        raise ShrikeError(f"{path.name}: fails on {fed} ({reason}); give --peer-shape NAME=1x64600") from error
    return peer


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """("audio", (1, 64600)) of audio=1x64600."""
    name, _, sizes = text.rpartition("=")
    fits = name and re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes)
    require(bool(fits), f"--peer-shape {text}: expected NAME=1x64600")
    return name, tuple(map(int, sizes.split("x")))


def footprint(subject: Subject | Path, shapes: Shapes | None = None) -> float | None:
    """MB resident of a fresh process that loaded a model, or a peer's file, and ran it once; None where unknown."""
    path = subject if isinstance(subject, Path) else subject.path
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(_load_and_run, subject, dict(shapes or {})).result()
        except BrokenProcessPool as error:
            raise ShrikeError(f"{path}: its process was killed; was there enough memory?") from error


def _load_and_run(subject: Subject | Path, shapes: Shapes) -> float | None:
    if isinstance(subject, Path):
        open_peer(subject, shapes=shapes)
        return resident()
    if subject.form == "torch":
        import torch

        torch.set_num_threads(1)
    engine = subject.open()
    if (streaming := as_streaming(engine)) is not None:
        streaming.batch_buffers(1).run(1)
    else:
        engine(np.zeros((1, 1, subject.frontend.bands, subject.frontend.width), np.float32))
    return resident()
