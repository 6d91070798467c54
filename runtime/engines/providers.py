"""Which of ONNX Runtime's execution providers computes, and whether it really does.

    provider = find_provider(onnxruntime, "openvino")     # "OpenVINOExecutionProvider", or what is there instead
    placed = verify_provider(session, provider)           # how many of the graph's nodes it took

ONNX Runtime goes on with the CPU where a provider cannot start (a library of CUDA is missing) or takes none of the
graph, and says so in its log at most. Here both are errors: whoever asks for a provider learns that it is not used.
"""

from typing import Any, NamedTuple

from runtime.support.errors import ShrikeError

SUFFIX = "ExecutionProvider"
CPU = "CPU" + SUFFIX
RECORD = "session.record_ep_graph_assignment_info"  # since ONNX Runtime 1.24; older ones ignore it

# What brings a provider that is missing. Only one of these packages may be installed: they are all named onnxruntime.
SOURCES = {
    "cuda": "pip install onnxruntime-gpu in place of onnxruntime (Jetson: NVIDIA's own build)",
    "tensorrt": "pip install onnxruntime-gpu in place of onnxruntime (Jetson: NVIDIA's own build), and TensorRT",
    "coreml": "the package onnxruntime brings it on macOS alone",
    "openvino": "pip install onnxruntime-openvino in place of onnxruntime (x86)",
    "dml": "pip install onnxruntime-directml in place of onnxruntime (Windows)",
    "xnnpack": "an ONNX Runtime that was built with --use_xnnpack brings it",
}


class Placement(NamedTuple):
    """Who computes the graph: nodes of the provider, and of all; None where this ONNX Runtime does not tell."""

    nodes: int
    total: int


def short(provider: str) -> str:
    """CUDAExecutionProvider -> cuda."""
    return provider.removesuffix(SUFFIX).lower()


def find_provider(onnxruntime: Any, name: str) -> str:
    """ONNX Runtime's own name of the provider; one that is not installed is said with what is there."""
    available = {short(provider): provider for provider in onnxruntime.get_available_providers()}
    if name in available:
        return str(available[name])
    source = SOURCES.get(name, f"known packages bring {', '.join(SOURCES)}")
    raise ShrikeError(
        f"--provider {name}: ONNX Runtime {onnxruntime.__version__} has {', '.join(sorted(available))} here, one of "
        f"which was expected; {source}"
    )


def verify_provider(session: Any, provider: str) -> Placement | None:
    """Refuse a session that fell back to the CPU, as a whole or for every node."""
    used = session.get_providers()
    if provider not in used:
        raise ShrikeError(
            f"--provider {short(provider)} cannot start here, ONNX Runtime would go on with {short(used[0])}: "
            "is its driver there, and are its libraries of the version that this package wants?"
        )
    placed = count_nodes(session, provider)
    if placed is not None and not placed.nodes:
        raise ShrikeError(
            f"--provider {short(provider)} takes none of the graph's {placed.total} nodes, all of them would run on "
            f"{short(CPU)}: leave --provider away"
        )
    return placed


def count_nodes(session: Any, provider: str) -> Placement | None:
    """Counted where the graph was divided, before nodes are fused."""
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):  # before 1.24, or not recorded
        return None
    counts = [(part.ep_name, len(part.get_nodes())) for part in parts]
    return Placement(sum(n for name, n in counts if name == provider), sum(n for _, n in counts)) if counts else None
