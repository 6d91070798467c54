"""Select an execution provider of ONNX Runtime, and verify that it computes the graph.

    provider = find_provider(onnxruntime, "openvino")     # "OpenVINOExecutionProvider", or an error that lists others
    placement = verify_provider(session, provider)        # "140 of 152 nodes"

ONNX Runtime continues on the CPU when a provider cannot start (a CUDA library is missing) or takes no node, and at most
logs it. Here both are errors.
"""

from typing import Any

from runtime.support.errors import ShrikeError

SUFFIX = "ExecutionProvider"
CPU = "CPU" + SUFFIX
RECORD = "session.record_ep_graph_assignment_info"  # since ONNX Runtime 1.24; older versions ignore it

# How to install a missing provider. Only one of these packages can be installed: each provides `onnxruntime`.
SOURCES = {
    "cuda": "pip install onnxruntime-gpu in place of onnxruntime (Jetson: NVIDIA's own build)",
    "tensorrt": "pip install onnxruntime-gpu in place of onnxruntime (Jetson: NVIDIA's own build), and TensorRT",
    "coreml": "part of the package onnxruntime on macOS only",
    "openvino": "pip install onnxruntime-openvino in place of onnxruntime (x86)",
    "dml": "pip install onnxruntime-directml in place of onnxruntime (Windows)",
    "xnnpack": "build ONNX Runtime with --use_xnnpack",
}


def short(provider: str) -> str:
    """CUDAExecutionProvider -> cuda."""
    return provider.removesuffix(SUFFIX).lower()


def find_provider(onnxruntime: Any, name: str) -> str:
    """Return ONNX Runtime's own name of an installed provider."""
    available = {short(provider): provider for provider in onnxruntime.get_available_providers()}
    if name in available:
        return str(available[name])
    raise ShrikeError(
        f"--provider {name}: ONNX Runtime {onnxruntime.__version__} expects {', '.join(sorted(available))} here; "
        + SOURCES.get(name, f"packages exist for {', '.join(SOURCES)}")
    )


def verify_provider(session: Any, provider: str) -> str:
    """Refuse a session that fell back to the CPU completely; return how many of the graph's nodes the provider took.

    They are counted before fusion; the text is empty where this ONNX Runtime does not count.
    """
    used = session.get_providers()
    if provider not in used:
        raise ShrikeError(
            f"--provider {short(provider)} cannot start here, ONNX Runtime would use {short(used[0])}: check its "
            "driver, and that its libraries have the version that this package expects"
        )
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):  # before 1.24, or not recorded
        return ""
    total = sum(len(part.get_nodes()) for part in parts)
    taken = sum(len(part.get_nodes()) for part in parts if part.ep_name == provider)
    if total and not taken:
        raise ShrikeError(
            f"--provider {short(provider)} takes none of the graph's {total} nodes, all would run on {short(CPU)}: "
            "leave --provider out"
        )
    return f"{taken} of {total} nodes" if total else ""
