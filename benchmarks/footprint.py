"""What a model costs in memory: a fresh process imports what it needs, loads it, runs it once, and is asked.

    footprint(subject)          # MB resident after the first run; None where the kernel does not say

A process of its own, so that no model counts what another one left.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.forms import Subject
from runtime.support.errors import ShrikeError

CHILD = "from benchmarks.footprint import child; child()"
LONGEST = 300.0  # s; torch on a slow card takes one to import
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def footprint(subject: Subject) -> float | None:
    """MB that a process with this model and nothing else holds."""
    sizes = (1, 1, subject.frontend.bands, subject.frontend.width)
    return _ask({"kind": subject.form, "path": str(subject.path), "shape": sizes})


def peer_footprint(path: Path, shapes: dict[str, tuple[int, ...]]) -> float | None:
    """The same for another's model."""
    return _ask({"kind": "peer", "path": str(path), "shapes": shapes})


def _ask(question: dict[str, object]) -> float | None:
    """Run the child; it prints one number."""
    # The code is imported from where this one found it, wherever the command runs.
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired as error:
        raise ShrikeError(f"{question['path']} did not load and run within {LONGEST:.0f} s") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed; was there enough memory?"])[-1]
        raise ShrikeError(f"{question['path']} does not run in a process of its own ({reason})")
    value = json.loads(done.stdout)
    return None if value is None else float(value)


def child() -> None:
    """What the fresh process does: no more than the runtime would."""
    question = json.loads(sys.stdin.read())
    path = Path(question["path"])
    if question["kind"] == "peer":
        from benchmarks.peers import open_peer

        open_peer(path, shapes=question["shapes"]).run()
    else:
        window = np.zeros(question["shape"], np.float32)
        if question["kind"] == "torch":
            import torch

            from benchmarks.forms import TorchEngine

            torch.set_num_threads(1)
            TorchEngine.load(path)(window)
        else:
            from runtime.engines import as_streaming, open_engine

            engine = open_engine(path)
            if (remembers := as_streaming(engine)) is not None:
                remembers.batch_buffers(1).run(1)
            else:
                engine(window)
    from runtime.support.measure import resident

    print(json.dumps(resident()))
