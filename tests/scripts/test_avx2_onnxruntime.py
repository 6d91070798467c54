"""The copy of ONNX Runtime without AVX-512 computes the same, by other kernels."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from runtime.engines.model_loader import MODELS

SCORE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(onnxruntime.__file__)
print(session.run(None, {session.get_inputs()[0].name: numpy.load(sys.argv[2])})[0].tolist())
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not onnxruntime.__version__.startswith("1.32."),
    reason="the place of the choice is known for ONNX Runtime 1.32 on x86-64",
)
def test_the_copy_gives_the_same_logits(tmp_path: Path) -> None:
    copy = tmp_path / "avx2"
    subprocess.run([sys.executable, "-m", "scripts.avx2_onnxruntime", str(copy)], check=True)
    again = subprocess.run(
        [sys.executable, "-m", "scripts.avx2_onnxruntime", str(copy)], capture_output=True, text=True
    )
    assert again.returncode == 2 and "Traceback" not in again.stderr
    np.save(tmp_path / "window.npy", np.random.default_rng(0).normal(-8, 3, (1, 1, 45, 600)).astype(np.float32))
    command = [sys.executable, "-c", SCORE, str(MODELS / "f0.onnx"), str(tmp_path / "window.npy")]
    logits = []
    for path in ("", str(copy)):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
        )
        where, values = done.stdout.splitlines()[-2:]
        assert Path(where).is_relative_to(copy) == bool(path)
        logits.append(np.array(json.loads(values)))
    # AVX2's products of 8 bits saturate at 16 bits unless the weights keep a bit free.
    assert np.abs(logits[0] - logits[1]).max() < 0.05
