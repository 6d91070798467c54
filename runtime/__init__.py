"""Run a fake-speech detector on a device. Never imports torch.

    from runtime import load

    with load("f0") as detector:
        print(detector.score(samples, rate=16_000).line())

The names in __all__ are stable (docs/python.md). They are imported when first used, so that `import runtime` is fast.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from runtime.api import Detector as Detector
    from runtime.api import Stream as Stream
    from runtime.api import load as load
    from runtime.audio.features import PRESETS as PRESETS
    from runtime.audio.features import FeatureStream as FeatureStream
    from runtime.audio.features import FrontEnd as FrontEnd
    from runtime.audio.framer import Score as Score
    from runtime.card.model_card import ModelCard as ModelCard
    from runtime.card.model_card import read_card as read_card
    from runtime.engines import open_engine as open_engine
    from runtime.multi_stream import StreamBatcher as StreamBatcher
    from runtime.scorer import StreamScorer as StreamScorer
    from runtime.summary import Summary as Summary
    from runtime.support.errors import ShrikeError as ShrikeError
    from runtime.verdict import Verdict as Verdict

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

__all__ = sorted(MODULES)


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'runtime' has no {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f"runtime.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
