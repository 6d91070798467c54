"""ONNX graph -> TensorRT plan, for 8.5 to 11 from one code path.

    import tensorrt
    plan = build_plan(tensorrt, graph, Recipe("int8", workspace=256))      # bytes, to be written as model.engine

The tensorrt module is an argument: a test passes TensorRT-RTX's, which parses and builds without a GPU. Two things
differ between versions and are asked of the module, never of its version:

    NetworkDefinitionCreationFlag.EXPLICIT_BATCH   8.5 to 10: passed; gone in 11, where it goes without saying
    BuilderFlag.INT8 and FP16                      8.5 to 10: set; gone in 11, where the graph says it (export.tensorrt.half)

Only TensorRT's own convolutions are tried: cuDNN and cuBLAS, which 8.x would try as well, cost hundreds of MB of a
small Jetson's memory, and from 10 on they are out by default. In fp32 rounding to TF32 is off: fp32 means fp32.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.tensorrt.check import is_quantised
from export.tensorrt.half import half
from runtime.card.model_card import Precision
from runtime.engines.tensorrt import error_logger
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from train.progress import say

if TYPE_CHECKING:
    import onnx

MIB = 1 << 20
ANY = -1  # how TensorRT writes a batch that is left open


@dataclass(frozen=True)
class Recipe:
    """How an engine is built."""

    precision: Precision
    workspace: int  # MiB that one layer's tactic may take
    timing_cache: Path | None = None  # what earlier builds on this device measured
    streams: int = 1  # that an engine with an open batch takes at once, at most


def is_strongly_typed(trt: Any) -> bool:
    """Whether types come from the graph alone: TensorRT 11 and TensorRT-RTX."""
    return not hasattr(trt.BuilderFlag, "INT8")


def build_plan(trt: Any, graph: "onnx.ModelProto", recipe: Recipe) -> bytes:
    """Parse, configure, build; whatever TensorRT says against it becomes one ShrikeError."""
    if is_quantised(graph) != (recipe.precision == "int8"):
        came, wanted = ("quantised", "fp16 or fp32") if is_quantised(graph) else ("float", "int8")
        raise ShrikeError(f"a {came} ONNX came, but --precision {recipe.precision}; use --precision {wanted}")
    if recipe.precision != "fp32" and is_strongly_typed(trt):
        graph = half(graph)
    logger = error_logger(trt)  # TensorRT keeps a bare pointer to it: it must outlive the builder
    builder = open_builder(trt, logger)
    network = builder.create_network(network_flags(trt))
    parse(trt, network, logger, graph)
    config = configure(trt, builder, network, recipe)
    cache = use_timing_cache(config, recipe.timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ShrikeError(
            f"TensorRT {trt.__version__} could not build the engine ({logger.one_line()}); if memory is short, "
            f"--workspace {max(16, recipe.workspace // 2)} and no other program beside it may help"
        )
    if cache is not None and recipe.timing_cache is not None:
        with atomic_file(recipe.timing_cache) as temporary:
            temporary.write_bytes(bytes(cache.serialize()))
    return bytes(plan)


def open_builder(trt: Any, logger: Any) -> Any:
    """TensorRT's Builder; without a GPU its factory returns nothing, which Python sees as a TypeError."""
    try:
        return trt.Builder(logger)
    except TypeError as error:
        raise ShrikeError(f"TensorRT {trt.__version__} found no GPU it can use ({logger.one_line()})") from error


def network_flags(trt: Any) -> int:
    """Explicit batch where it must be said. Values move between versions, so the flag is shifted here."""
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return 0


def parse(trt: Any, network: Any, logger: Any, graph: "onnx.ModelProto") -> None:
    """The graph into the network; the parser's errors as one line."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse(graph.SerializeToString()):
        return
    complaints = [parser.get_error(number) for number in range(parser.num_errors)][:2]
    words = "; ".join(f"node {complaint.node()}: {' '.join(complaint.desc().split())}" for complaint in complaints)
    raise ShrikeError(
        f"TensorRT {trt.__version__} does not take this ONNX ({words or logger.one_line()}); export it again"
    )


def configure(trt: Any, builder: Any, network: Any, recipe: Recipe) -> Any:
    """Memory, precision, the inspector's level of detail, and from one window or stream on as many as are wanted."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    own = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
    config.set_tactic_sources(sum(1 << int(source) for source in own))
    if recipe.precision == "int8" and hasattr(trt.BuilderFlag, "INT8"):
        config.set_flag(trt.BuilderFlag.INT8)
    if recipe.precision != "fp32" and hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)  # what stays float beside INT8 as well, or reformatting eats the gain
    if recipe.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    ports = [network.get_input(number) for number in range(network.num_inputs)]
    if any(port.shape[0] == ANY for port in ports):
        profile = builder.create_optimization_profile()
        for port in ports:
            one, most = ((count, *port.shape[1:]) for count in (1, recipe.streams))
            profile.set_shape(port.name, one, most, most)
        config.add_optimization_profile(profile)
    return config


def use_timing_cache(config: Any, path: Path | None) -> Any:
    """The timing cache that the builder reads and extends; one of another device or version is left alone, and said."""
    if path is None:
        return None
    try:
        kept = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise ShrikeError(f"--timing-cache {path} cannot be read: {error.strerror}") from error
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        say(f"{path} is of another TensorRT or GPU, or damaged: every layer is timed again, and the file is replaced")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache
