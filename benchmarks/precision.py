"""What INT8 costs and gains on a CPU: one checkpoint as torch float, ONNX float, S8 and U8, side by side in one run.

    python -m benchmarks.precision runs/model/model.pt --corpus ../shared/corpus

Every form is exported by export.onnx, with its calibration and its gate. Then all take turns on one window, one thread
each, so that a noisy machine disturbs them alike.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import tyro

from runtime.command import parse, run


@dataclass(frozen=True)
class Options:
    """Compare the forms in which a checkpoint can run on a CPU."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    corpus: Path
    """Calibrates INT8 and judges it, as for python -m export.onnx --calibration."""
    rounds: int = 60
    """Windows through every form, after ten to warm up."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept."""


def main() -> None:
    options = parse(Options, "benchmarks.precision", __doc__)
    import numpy as np
    import torch

    from export import onnx
    from export.pipeline import Gate, Int8, Source
    from export.strip import strip
    from runtime.card import read_card
    from runtime.engines import open_engine
    from train.checkpoint import read_checkpoint

    torch.set_num_threads(1)
    rows: list[tuple[str, ...]] = []
    network = strip(read_checkpoint(options.model))
    forms = {"ONNX float": ("fp32", "cpu"), "S8, for TensorRT": ("int8", "tensorrt"), "U8, for CPUs": ("int8", "cpu")}
    with tempfile.TemporaryDirectory() as folder:
        int8 = Int8(calibration=options.corpus)
        engines, sizes, cards = {}, {}, {}
        for number, (name, (precision, target)) in enumerate(forms.items()):
            source = Source(options.model, out=Path(folder) / str(number), cache=options.cache)
            path = onnx.write(onnx.Options(source, precision, target, int8, Gate()))  # type: ignore[arg-type]
            engines[name], sizes[name], cards[name] = open_engine(path), path.stat().st_size, read_card(path)
        frontend = cards["ONNX float"].frontend
        shape = (1, 1, frontend.bands, frontend.width)
        window = np.random.default_rng(0).normal(-8, 4, shape).astype(np.float32)  # log power's range
        tensor = torch.from_numpy(window)

        def torch_float() -> None:
            with torch.inference_mode():
                network(tensor)

        runs: dict[str, Callable[[], object]] = {"torch float": torch_float}
        runs |= {name: partial(engine, window) for name, engine in engines.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(options.rounds + 10):
            for name, step in runs.items():
                began = time.perf_counter()
                step()
                if number >= 10:
                    times[name].append(1000 * (time.perf_counter() - began))
        for name, values in times.items():
            size = f"{sizes[name] / 1e6:.2f} MB" if name in sizes else "-"
            accuracy = cards[name].accuracy if name in cards else None
            eer = f"{100 * accuracy.eer:.2f}" if accuracy and accuracy.eer is not None else "-"
            same = f"{accuracy.correlation:.5f}" if accuracy and accuracy.correlation is not None else "-"
            quick = f"{median(values):.1f} | {sorted(values)[int(0.9 * len(values))]:.1f}"
            rows.append((name, quick, size, eer, same))
        for engine in engines.values():
            engine.close()
    print("| form | ms per window, median | p90 | file | EER on dev, % | correlation with float |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    run(main)
