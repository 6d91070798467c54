"""PyCUDA and cuda-python, the real libraries, run our calls on a stand-in for the driver (libcuda.c).

A library is tried where it is installed. cuda-python comes with the training packages; PyCUDA must be compiled:
PATH=/usr/local/cuda/bin:$PATH pip install pycuda.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.engines.cuda import INSTALL, LIBRARIES, CudaError, open_cuda

ROOT = Path(__file__).resolve().parents[3]
# PyCUDA is linked with all of the driver's functions: lazily bound, those that are never called may be missing.
PROGRAM = """
import os, sys, threading
sys.setdlopenflags(os.RTLD_LAZY)
import numpy as np
from runtime.engines.cuda import CudaError, open_cuda
cuda = open_cuda(sys.argv[1])
assert (cuda.gpu, cuda.capability) == ("Fake Orin", "8.7") and cuda.waiting in ("spin", "unknown") and cuda.stream

def allocate():
    with cuda.current():
        return cuda.pinned((1, 3, 4)), cuda.pinned((1, 3, 4)), cuda.allocate(48)

def work():
    cuda.to_device(pointer, source)
    cuda.to_host(target, pointer)

def run(launch, value):
    with cuda.current():
        source[:], target[:] = value, 0.0
        launch()
        cuda.synchronise()
        assert (target == value).all()

def refused():
    raise CudaError("work that cannot be queued")

source, target, pointer = allocate()
assert source.shape == (1, 3, 4) and source.dtype == np.float32
run(work, 1.5)
with cuda.current():
    events = [cuda.event(), cuda.event()]
    cuda.record(events[0])
    work()
    cuda.record(events[1])
    cuda.synchronise()
    assert cuda.elapsed(*events) == 2.0  # the stand-in counts copies
    del events
    try:
        cuda.capture(refused)
    except CudaError:
        pass
    work()  # after a failed capture the stream is usable
    cuda.synchronise()
    try:
        launch = cuda.capture(work)
    except CudaError:
        launch = None
print("graph" if launch else "no graph")
run(launch or work, 2.5)
thread = threading.Thread(target=run, args=(work, 4.5))
thread.start()
thread.join()
assert (target == 4.5).all()
if len(sys.argv) == 2:  # else the end of the process must release it
    cuda.close()
    cuda.close()
"""


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with libcuda.so.1."""
    if not (compiler := shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    source, target = Path(__file__).with_name("libcuda.c"), folder / "libcuda.so.1"
    flags = ["-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *flags, "-o", str(target), str(source), "-ldl"], check=True)
    return folder


def tried(library: str, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, library, *words], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | environment | {"LD_LIBRARY_PATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_real_library_runs_every_call_and_everything_is_released(library: str, stand_in: Path) -> None:
    done = tried(library, stand_in, FAKE_CUDA_REPORT="1")
    assert done.returncode == 0, done.stderr
    graph, report = done.stdout.splitlines()
    assert graph == ("graph" if library == "cuda" else "no graph") and report.startswith("live 0 ")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_process_that_closes_nothing_ends_well(library: str, stand_in: Path) -> None:
    done = tried(library, stand_in, "leave it open")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("failing", ["cuInit", "cuStreamCreate", "cuMemAlloc_v2", "cuMemHostAlloc"])
def test_a_failing_call_is_a_cuda_error(library: str, failing: str, stand_in: Path) -> None:
    done = tried(library, stand_in, FAKE_CUDA_FAILS=failing)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "CudaError" in last
    assert failing.removesuffix("_v2") in last or library == "pycuda"


def test_a_capture_that_the_driver_refuses_is_a_cuda_error(stand_in: Path) -> None:
    done = tried("cuda", stand_in, FAKE_CUDA_FAILS="cuStreamBeginCapture_v2")
    assert done.returncode == 0 and done.stdout.startswith("no graph"), done.stderr


def test_without_a_driver_the_line_names_it() -> None:
    try:
        cuda = open_cuda()
    except CudaError as error:
        assert "driver" in str(error) and "\n" not in str(error)
    else:
        cuda.close()


def test_without_a_library_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycuda", "cuda", "cuda.bindings", *(module for module, _ in LIBRARIES.values())):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(CudaError) as caught:
        open_cuda()
    assert INSTALL in str(caught.value) and "\n" not in str(caught.value)
