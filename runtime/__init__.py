"""Run a fake-speech detector on a device. Never imports torch.

    from runtime import load

    with load("f0") as detector:
        print(detector.score(samples, rate=16_000).line())

The names in __all__ are stable (docs/python.md). They are imported when first used, so that `import runtime` is fast.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runtime.api import Detector, Stream, load
    from runtime.audio.features import PRESETS, FeatureStream, FrontEnd
    from runtime.audio.framer import Score
    from runtime.card.model_card import ModelCard, read_card
    from runtime.engines import open_engine
    from runtime.multi_stream import StreamBatcher
    from runtime.scorer import StreamScorer
    from runtime.summary import Summary
    from runtime.support.errors import ShrikeError
    from runtime.verdict import Verdict

MODULES = {  # of every stable name
    "load": "api",
    "Detector": "api",
    "Stream": "api",
    "Verdict": "verdict",
    "Summary": "summary",
    "StreamBatcher": "multi_stream",
    "StreamScorer": "scorer",
    "Score": "audio.framer",
    "open_engine": "engines",
    "ModelCard": "card.model_card",
    "read_card": "card.model_card",
    "FrontEnd": "audio.features",
    "FeatureStream": "audio.features",
    "PRESETS": "audio.features",
    "ShrikeError": "support.errors",
}

__all__ = [
    "PRESETS",
    "Detector",
    "FeatureStream",
    "FrontEnd",
    "ModelCard",
    "Score",
    "ShrikeError",
    "Stream",
    "StreamBatcher",
    "StreamScorer",
    "Summary",
    "Verdict",
    "load",
    "open_engine",
    "read_card",
]


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'runtime' has no {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"runtime.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
