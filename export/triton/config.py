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
from tritonclient.grpc import model_config_pb2 as pb

from runtime.card.model_card import ModelCard, StateTensor
from runtime.serve.triton import ONNX_SHA256, onnx_sha256
from runtime.support.errors import ShrikeError

ONNX, TENSORRT = "onnxruntime_onnx", "tensorrt_plan"
BACKENDS = {ONNX: "onnxruntime", TENSORRT: "tensorrt"}
FILES = {ONNX: "model.onnx", TENSORRT: "model.plan"}
TYPES = {"float32": pb.TYPE_FP32, "uint8": pb.TYPE_UINT8}
QUEUE_DELAY = 1_000  # us that a request may wait for others of its batch; a step is due every 130,000
IDLE = 120_000_000  # us after which Triton drops the state of a client that left without a word
WARMUP = "features"  # file of the sample in the folder `warmup`


def build_config(name: str, card: ModelCard, platform: str, batch: int, streams: int) -> pb.ModelConfig:
    """Return the configuration; `batch` 0: the graph's batch is fixed, and its dimensions include it."""
    config = pb.ModelConfig(
        name=name,
        platform=platform,
        backend=BACKENDS[platform],
        default_model_filename=FILES[platform],
        max_batch_size=batch,
        instance_group=[_instances(card, platform)],
    )
    features, logits = (list(spec.shape[1:] if batch else spec.shape) for spec in (card.input, card.output))
    config.input.add(name=card.input.name, data_type=pb.TYPE_FP32, dims=features)
    config.output.add(name=card.output.name, data_type=pb.TYPE_FP32, dims=logits)
    config.parameters[ONNX_SHA256].string_value = onnx_sha256(card)
    if platform == ONNX:  # threads gain nothing on networks this small
        config.parameters["intra_op_thread_count"].string_value = "1"
    if card.state:
        check_order(card.state.tensors)
        _add_states(config.sequence_batching, card.state.tensors, streams)
        return config
    if batch:
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_DELAY
    for size in sorted({1, batch or 1}):
        sample = config.model_warmup.add(name=f"{size} windows", batch_size=size)
        given = sample.inputs[card.input.name]
        given.data_type, given.input_data_file = pb.TYPE_FP32, WARMUP
        given.dims.extend(features)
    return config


def _instances(card: ModelCard, platform: str) -> pb.ModelInstanceGroup:
    """On GPUs where there are any, but for integers in the form that CPUs compute fast."""
    if platform == TENSORRT:
        return pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_GPU)
    on_cpu = card.precision == "int8" and card.target == "cpu"
    kind = pb.ModelInstanceGroup.KIND_CPU if on_cpu else pb.ModelInstanceGroup.KIND_AUTO
    return pb.ModelInstanceGroup(count=1, kind=kind)


def _add_states(batching: Any, tensors: tuple[StateTensor, ...], streams: int) -> None:
    batching.max_sequence_idle_microseconds = IDLE
    batching.oldest.max_candidate_sequences = streams
    batching.oldest.max_queue_delay_microseconds = QUEUE_DELAY
    for place, tensor in enumerate(tensors):
        kind = TYPES[tensor.type]
        state = batching.state.add(
            input_name=tensor.input, output_name=tensor.output, data_type=kind, dims=tensor.shape
        )
        initial = state.initial_state.add(name=tensor.input, data_type=kind, dims=tensor.shape)
        if any(tensor.reset):
            initial.data_file = str(place)  # a card's names may hold anything
        else:
            initial.zero_data = True


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
