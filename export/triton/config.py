"""Triton's configuration of one model, as its own ModelConfig message.

    config = build_config("edge", card, "onnxruntime_onnx", batch=16, streams=1024)
    text_format.MessageToString(config)                    # config.pbtxt

Implicit state: each state of the card is a pair of an input and an output that Triton carries from one request of a
sequence to the next. It starts from `initial_state` at every sequence start. No control inputs: our graphs have none,
and Triton's backends require none. A repository holds no warm-up sample of a streaming model: Triton runs samples
outside the sequence batcher, where its backends cannot store states, and would then refuse the model.
"""

from typing import Any

import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb

from runtime.card.model_card import ModelCard, StateTensor
from runtime.serve.triton import ONNX_SHA256, onnx_sha256
from runtime.support.errors import ShrikeError

ONNX, TENSORRT = "onnxruntime_onnx", "tensorrt_plan"
BACKENDS = {ONNX: "onnxruntime", TENSORRT: "tensorrt"}
FILES = {ONNX: "model.onnx", TENSORRT: "model.plan"}
TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
QUEUE_DELAY = 1_000  # us that a request may wait for others of its batch; a step is due every 130,000
IDLE = 120_000_000  # us after which Triton drops the state of a client that left without a word
WARMUP = "features"  # file of the sample in the folder `warmup`


def build_config(name: str, card: ModelCard, platform: str, batch: int, streams: int) -> pb.ModelConfig:
    """Return the configuration; `batch` 0: the graph's batch is fixed, and its dimensions include it."""
    features, logits = (
        {"name": spec.name, "data_type": "TYPE_FP32", "dims": spec.shape[1:] if batch else spec.shape}
        for spec in (card.input, card.output)
    )
    parameters = {ONNX_SHA256: onnx_sha256(card)}
    # On GPUs where there are any, but for integers in the form that CPUs compute fast.
    kind = "KIND_CPU" if card.precision == "int8" and card.target == "cpu" else "KIND_AUTO"
    if platform == ONNX:  # threads gain nothing on networks this small
        parameters["intra_op_thread_count"] = "1"
    config: dict[str, Any] = {
        "name": name,
        "platform": platform,
        "backend": BACKENDS[platform],
        "default_model_filename": FILES[platform],
        "max_batch_size": batch,
        "instance_group": [{"count": 1, "kind": "KIND_GPU" if platform == TENSORRT else kind}],
        "input": [features],
        "output": [logits],
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }
    if card.state:
        check_order(card.state.tensors)
        config["sequence_batching"] = {
            "max_sequence_idle_microseconds": IDLE,
            "oldest": {"max_candidate_sequences": streams, "max_queue_delay_microseconds": QUEUE_DELAY},
            "state": [_state(place, tensor) for place, tensor in enumerate(card.state.tensors)],
        }
    else:
        sample = {"data_type": "TYPE_FP32", "dims": features["dims"], "input_data_file": WARMUP}
        config["model_warmup"] = [
            {"name": f"{size} windows", "batch_size": size, "inputs": {card.input.name: sample}}
            for size in sorted({1, batch or 1})
        ]
        if batch:
            config["dynamic_batching"] = {"max_queue_delay_microseconds": QUEUE_DELAY}
    return json_format.ParseDict(config, pb.ModelConfig())


def _state(place: int, tensor: StateTensor) -> dict[str, Any]:
    form = {"data_type": TYPES[tensor.type], "dims": tensor.shape}
    # A file's name is a number: a card's names may hold anything.
    initial = {"data_file": str(place)} if any(tensor.reset) else {"zero_data": True}
    return {
        "input_name": tensor.input,
        "output_name": tensor.output,
        "initial_state": [{"name": tensor.input, **form, **initial}],
        **form,
    }


def initial_bytes(tensor: StateTensor) -> bytes:
    """Return the content of the file `data_file`: the state in row-major order."""
    values = np.asarray(tensor.reset, tensor.type).reshape(-1, *[1] * (len(tensor.shape) - 1))
    return np.broadcast_to(values, tensor.shape).tobytes()


def check_order(tensors: tuple[StateTensor, ...]) -> None:
    """Refuse names that Triton would pair wrongly: it matches inputs and outputs by their places in sorted order.

    https://github.com/triton-inference-server/server/issues/8586
    """
    by_input = sorted(tensors, key=lambda tensor: tensor.input.encode())
    by_output = sorted(tensors, key=lambda tensor: tensor.output.encode())
    for one, other in zip(by_input, by_output, strict=True):
        if one is not other:
            raise ShrikeError(
                f"states {one.input!a} and {other.input!a}: expected inputs and outputs in one alphabetical order, "
                "or Triton would swap them; rename them in the graph and its card"
            )
