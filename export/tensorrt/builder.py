"""ONNX graph -> TensorRT plan, for 8.5 to 11 from one code path.

    import tensorrt
    plan = build_plan(tensorrt, graph, BuildOptions("int8", workspace=256))      # bytes, to be written as model.engine

The tensorrt module is an argument: a test passes TensorRT-RTX's, which parses and builds without a GPU. Three things
differ between versions and are read from the module, never from its version:

    NetworkDefinitionCreationFlag.EXPLICIT_BATCH   8.5 to 10: passed; gone in 11, where it is implied
    BuilderFlag.INT8 and FP16                      8.5 to 10: set; gone in 11, which takes types from the graph
                                                   (export.tensorrt.half)
    INormalizationLayer                            8.6 on: LayerNormalization; expanded for 8.5

Only TensorRT's own convolutions are tried: cuDNN and cuBLAS, which 8.x would try as well, cost hundreds of MB of a
small Jetson's memory, and from 10 on they are off by default. In fp32 rounding to TF32 is off.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.tensorrt.check import is_quantised
from export.tensorrt.half import half
from export.tensorrt.layer_norm import expand_layer_norm
from runtime.card.model_card import ModelCard, Precision
from runtime.engines.tensorrt import error_logger
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from train.progress import say

MIB = 1 << 20
ANY = -1  # TensorRT's dynamic dimension


@dataclass(frozen=True)
class BuildOptions:
    """Options of one build."""

    precision: Precision
    workspace: int  # MiB that one layer's tactic may take
    timing_cache: Path | None = None  # timings of earlier builds on this device
    streams: int = 1  # largest batch of an engine with a dynamic batch


@dataclass(frozen=True)
class BuildJob:
    """One engine to build."""

    path: Path  # of the ONNX file
    graph: onnx.ModelProto
    card: ModelCard
    build: BuildOptions
    target: Path  # of the engine


def is_strongly_typed(trt: Any) -> bool:
    """True if types come from the graph only: TensorRT 11 and TensorRT-RTX."""
    return not hasattr(trt.BuilderFlag, "INT8")


def check_precision(graph: onnx.ModelProto, build: BuildOptions) -> None:
    """Refuse a graph whose form does not fit the precision."""
    if is_quantised(graph) != (build.precision == "int8"):
        form, fitting = ("quantised", "int8") if is_quantised(graph) else ("float", "fp16 or fp32")
        raise ShrikeError(
            f"--precision {build.precision}: the ONNX graph is {form}; use --precision {fitting}, or export another: "
            "python -m export.onnx MODEL.pt --target tensorrt"
        )


def build_plan(trt: Any, graph: onnx.ModelProto, build: BuildOptions, logger: Any = None) -> bytes:
    """Parse, configure and build; TensorRT's errors become one ShrikeError. `logger`: another one of error_logger."""
    check_precision(graph, build)
    if not hasattr(trt, "INormalizationLayer"):
        graph = expand_layer_norm(graph)
    if build.precision != "fp32" and is_strongly_typed(trt):
        graph = half(graph)
    logger = logger or error_logger(trt)  # TensorRT holds a bare pointer: it must outlive the builder
    builder = open_builder(trt, logger)
    network = builder.create_network(network_flags(trt))
    parse(trt, network, logger, graph)
    config = configure(trt, builder, network, build)
    cache = use_timing_cache(config, build.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ShrikeError(
            f"TensorRT {trt.__version__} could not build the engine ({logger.one_line()}); if memory is short, "
            f"--workspace {max(16, build.workspace // 2)} and no other program beside it may help"
        )
    if cache is not None and build.timing_cache is not None:
        with atomic_file(build.timing_cache) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def open_builder(trt: Any, logger: Any) -> Any:
    """Open TensorRT's Builder; without a GPU its factory returns nullptr, a TypeError in Python."""
    try:
        return trt.Builder(logger)
    except TypeError as error:
        raise ShrikeError(f"TensorRT {trt.__version__} found no GPU it can use ({logger.one_line()})") from error


def network_flags(trt: Any) -> int:
    """Request explicit batch where the flag exists. Its value differs between versions, so it is shifted here."""
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def parse(trt: Any, network: Any, logger: Any, graph: onnx.ModelProto) -> None:
    """Parse the graph into the network; the parser's errors become one line."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph.SerializeToString()):
        return
    complaints = [parser.get_error(number) for number in range(parser.num_errors)][:2]
    words = "; ".join(f"node {complaint.node()}: {' '.join(complaint.desc().split())}" for complaint in complaints)
    raise ShrikeError(
        f"TensorRT {trt.__version__} does not take this ONNX ({words or logger.one_line()}); export it again"
    )


def configure(trt: Any, builder: Any, network: Any, build: BuildOptions) -> Any:
    """Set memory, precision, the inspector's level of detail and the range of batch sizes."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, build.workspace * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    own = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in own))
    if build.precision == "int8" and hasattr(trt.BuilderFlag, "INT8"):
        config.set_flag(trt.BuilderFlag.INT8)
    if build.precision != "fp32" and hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)  # also for the float layers beside INT8, or reformatting costs the gain
    if build.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    ports = [network.get_input(number) for number in range(network.num_inputs)]
    if any(port.shape[0] == ANY for port in ports):
        profile = builder.create_optimization_profile()
        for port in ports:
            one, most = ((count, *port.shape[1:]) for count in (1, build.streams))
            profile.set_shape(port.name, one, most, most)
        config.add_optimization_profile(profile)
    return config


def use_timing_cache(config: Any, path: Path | None) -> Any:
    """Load the timing cache that the builder extends; one of another device or version is replaced, with a message."""
    if path is None:
        return None
    try:
        stored = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ShrikeError(f"--timing-cache {path} cannot be read: {error.strerror}") from error
    cache = config.create_timing_cache(stored)
    if cache is None or not config.set_timing_cache(cache, False):
        say(f"{path} is damaged or of another TensorRT or GPU: every layer is timed again and the file replaced")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache
