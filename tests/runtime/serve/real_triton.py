"""NVIDIA's own Triton core, from the package nvidia-pytriton: its gRPC service, sequence batcher and implicit states.

The package has no back end for ONNX files. A small one of the tests (triton_shim.c) hands each batch to this process,
which computes it with ONNX Runtime:

    pip install --no-deps nvidia-pytriton
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from struct import pack, unpack
from typing import IO, Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from tests.runtime.serve.triton_server import ServedModel

KINDS = {2: np.dtype(np.uint8), 11: np.dtype(np.float32)}  # TRITONSERVER_DataType
NUMBERS = {kind: number for number, kind in KINDS.items()}
STARTING = 60  # s


def binary() -> Path | None:
    """Path of the server, or None where it or a compiler is missing."""
    found = importlib.util.find_spec("pytriton")
    if found is None or not found.submodule_search_locations or not shutil.which("gcc"):
        return None
    return Path(found.submodule_search_locations[0]) / "tritonserver" / "bin" / "tritonserver"


class RealTriton:
    """A running server."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository, self.folder, self.batches = repository, folder, set[int]()
        backend = folder / "backends" / "onnxruntime"
        backend.mkdir(parents=True)
        library, source = backend / "libtriton_onnxruntime.so", Path(__file__).with_name("triton_shim.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        self.url = f"grpc://127.0.0.1:{self.port}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "socket"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        self.start()

    def start(self) -> None:
        words = {
            "model-repository": self.repository,
            "backend-directory": self.folder / "backends",
            "grpc-port": self.port,
            "grpc-address": "127.0.0.1",
            "allow-http": "false",
            "allow-metrics": "false",
        }
        command = [str(binary()), *(f"--{name}={value}" for name, value in words.items())]
        os.chmod(command[0], 0o755)  # the package's file may lack the bit
        environment = os.environ | {"SHRIKE_SHIM": str(self.folder / "socket")}
        with open(self.folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        with grpc.insecure_channel(self.url.removeprefix("grpc://")) as channel:
            ready = service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerReady
            answer = ready(messages.ServerReadyRequest(), wait_for_ready=True, timeout=STARTING)
        assert answer.ready, (self.folder / "log").read_text()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._listener.close()

    # ---- the back end's side

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                stream = self._listener.accept()[0].makefile("rwb")
                threading.Thread(target=self._compute, args=(stream,), daemon=True).start()

    def _compute(self, stream: IO[bytes]) -> None:
        """Compute the batches of one model instance until the server ends."""
        with suppress(OSError):
            model = ServedModel(self.repository / stream.read(_number(stream)).decode())
            states, names = set(model.pairs.values()), [one.name for one in model.session.get_outputs()]
            while count := _number(stream):
                self.batches.add(count)
                requests = [_tensors(stream) for _ in range(count)]
                together = {name: np.concatenate([one[name] for one in requests]) for name in requests[0]}
                found = dict(zip(names, model.session.run(names, together), strict=True))
                for row in range(count):
                    stream.write(pack("<I", len(names)))
                    for name, values in found.items():
                        _write(stream, name, values[row : row + 1], name in states)
                stream.flush()


def _number(stream: IO[bytes]) -> int:
    """Read a number; 0 at the end."""
    return int(unpack("<I", stream.read(4).ljust(4, b"\0"))[0])


def _tensors(stream: IO[bytes]) -> dict[str, np.ndarray[Any, Any]]:
    found = {}
    for _ in range(_number(stream)):
        name, kind, dims = stream.read(_number(stream)).decode(), KINDS[_number(stream)], _number(stream)
        shape = unpack(f"<{dims}q", stream.read(8 * dims))
        found[name] = np.frombuffer(stream.read(_number(stream)), kind).reshape(shape)
    return found


def _write(stream: IO[bytes], name: str, values: np.ndarray[Any, Any], state: bool) -> None:
    content = values.tobytes()
    stream.write(pack("<II", state, len(name)) + name.encode() + pack("<II", NUMBERS[values.dtype], values.ndim))
    stream.write(pack(f"<{values.ndim}q", *values.shape) + pack("<I", len(content)) + content)


@contextmanager
def real_triton(repository: Path, folder: Path) -> Iterator[RealTriton]:
    """Serve a repository; `folder`: an empty one with a short path."""
    server = RealTriton(repository, folder)
    try:
        yield server
    finally:
        server.close()
