"""Server for tests that speaks Triton's gRPC protocol and follows the configuration of a model repository.

It reads config.pbtxt with Triton's own message, runs the ONNX files with ONNX Runtime, and holds implicit states by
correlation id. Its rules are those of Triton's sources: states are paired by the sorted order of their names, a
sequence needs a start flag, and a batch needs graphs whose first dimension is open.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

TYPES = {pb.TYPE_FP32: ("FP32", np.float32), pb.TYPE_UINT8: ("UINT8", np.uint8)}
Arrays = dict[str, np.ndarray[Any, Any]]


class ServedModel:
    """One folder of a repository."""

    def __init__(self, folder: Path) -> None:
        self.config = text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())
        assert self.config.name == folder.name and self.config.platform == "onnxruntime_onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        file = folder / "1" / self.config.default_model_filename
        self.session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        self.batched = [1] if self.config.max_batch_size else []
        states = self.config.sequence_batching.state
        wanted = {one.name for one in self.config.input} | {one.input_name for one in states}
        assert {one.name for one in self.session.get_inputs()} == wanted
        for port in (*self.session.get_inputs(), *self.session.get_outputs()):
            assert not self.batched or not isinstance(port.shape[0], int), port  # or Triton refuses the model
        self.initial = {one.input_name: self._initial(folder, one) for one in states}
        self.pairs = dict(
            zip(sorted(one.input_name for one in states), sorted(one.output_name for one in states), strict=True)
        )
        self.sequences: dict[int, Arrays] = {}
        self.largest = 0  # number of sequences at once
        self.requests = 0
        self._lock = threading.Lock()
        for sample in self.config.model_warmup:
            assert not states  # Triton could not store them
            self.session.run(None, {name: self._sample(folder, sample, one) for name, one in sample.inputs.items()})

    def _initial(self, folder: Path, state: Any) -> np.ndarray[Any, Any]:
        (initial,) = state.initial_state
        assert initial.name and (initial.data_type, initial.dims) == (state.data_type, state.dims)
        kind, shape = TYPES[state.data_type][1], [*self.batched, *initial.dims]
        if initial.zero_data:
            return np.zeros(shape, kind)
        return np.frombuffer((folder / "initial_state" / initial.data_file).read_bytes(), kind).reshape(shape)

    def _sample(self, folder: Path, sample: Any, given: Any) -> np.ndarray[Any, Any]:
        content = (folder / "warmup" / given.input_data_file).read_bytes()
        one = np.frombuffer(content, TYPES[given.data_type][1]).reshape([*self.batched, *given.dims])
        return np.concatenate([one] * sample.batch_size)

    def infer(self, request: Any, context: grpc.ServicerContext) -> Any:
        (spec,), (given,) = self.config.input, request.inputs
        name, kind = TYPES[spec.data_type]
        if (given.name, given.datatype, list(given.shape)) != (spec.name, name, [*self.batched, *spec.dims]):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unexpected shape for input {given.name!r}")
        feeds = {given.name: np.frombuffer(request.raw_input_contents[0], kind).reshape(given.shape)}
        sequence = request.parameters["sequence_id"].int64_param
        with self._lock:
            self.requests += 1
            if self.pairs:
                if request.parameters["sequence_start"].bool_param:
                    self.sequences[sequence] = dict(self.initial)
                if not sequence or sequence not in self.sequences:
                    text = f"inference request for sequence {sequence} to model {self.config.name!r} must specify the "
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, text + "START flag on the first request")
                feeds |= self.sequences[sequence]
            self.largest = max(self.largest, len(self.sequences))
            names = [one.name for one in self.session.get_outputs()]
            found = dict(zip(names, self.session.run(names, feeds), strict=True))
            if self.pairs:
                self.sequences[sequence] = {before: found[after] for before, after in self.pairs.items()}
                if request.parameters["sequence_end"].bool_param:
                    del self.sequences[sequence]
        answer = messages.ModelInferResponse(model_name=self.config.name, model_version="1")
        for output in request.outputs:
            values = found[output.name]
            answer.outputs.add(name=output.name, datatype="FP32", shape=values.shape)
            answer.raw_output_contents.append(values.tobytes())
        return answer


class MadeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The server. `start` again after `stop` gives the same port, without the states, as after a crash."""

    def __init__(self, repository: Path) -> None:
        self.repository, self.port = repository, 0
        self.answering = threading.Event()
        self.start()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.models = {path.parent.name: ServedModel(path.parent) for path in self.repository.glob("*/config.pbtxt")}
        self.answering.set()
        self._server = grpc.server(ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self.answering.set()
        self._server.stop(0).wait(10)

    def ServerLive(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the protocol's names
        return messages.ServerLiveResponse(live=True)

    def ModelReady(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return messages.ModelReadyResponse(ready=request.name in self.models)

    def ModelConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return messages.ModelConfigResponse(config=self.models[request.name].config)

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.answering.wait(60)
        if request.model_name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: {request.model_name!r} is not found")
        return self.models[request.model_name].infer(request, context)


@contextmanager
def made_triton(repository: Path) -> Iterator[MadeTriton]:
    """Serve a repository."""
    server = MadeTriton(repository)
    try:
        yield server
    finally:
        server.stop()
