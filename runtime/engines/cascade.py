"""A network in segments, of which only as many run as it takes to be certain: ONNX Runtime, one session for each.

    engine = open_cascade("deploy/model.onnx")      # the card beside it names the segments' files
    logits = engine(window)                         # as any engine's
    engine.decided                                  # exit -> how many windows it decided

Every exit has its own map from scores to log-likelihood ratios. What an early exit says goes back through the map of
the network's own exit: whoever applies the card's map to the logits gets that exit's LLR. Where the last segment
decides, the logits are the whole network's, to the last bit.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.card import OUTPUTS, ModelCard, card_path, read_card
from runtime.cascade import Cascade, Segment, find_cascade
from runtime.engines.onnx import compute, open_session
from runtime.errors import ShrikeError
from runtime.hashes import verify_file

TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}  # in ONNX Runtime's words


def open_cascade(path: str | os.PathLike[str], threads: int = 1, provider: str = "cpu") -> "CascadeEngine":
    """The segments that the card beside `path` names; the whole network's own file is not opened."""
    card_file = card_path(path)
    card = read_card(path, verify=False)
    models = []
    for segment in find_cascade(Path(path).name, card.cascade).segments:
        verify_file(card_file, segment.file, card.files[segment.file])
        models.append(card_file.with_name(segment.file).read_bytes())
    return CascadeEngine(models, card, threads, provider)


class CascadeEngine:
    """Sessions that run one after the other, until one is certain. Not thread-safe."""

    def __init__(self, models: Sequence[bytes], card: ModelCard, threads: int = 1, provider: str = "cpu") -> None:
        self.name: str = card.name
        self.precision: str = card.precision
        self.card = card
        self.cascade: Cascade = find_cascade(card.name, card.cascade)
        self.decided: Counter[int] = Counter()
        self._segments: list[tuple[Segment, Any, str]] = []  # with its session and its input's name
        source, shape, kind = card.input.name, card.input.shape, "float32"
        for segment, model in zip(self.cascade.segments, models, strict=True):
            session, self.provider, _ = open_session(model, f"{card.name}, {segment.file}", threads, provider)
            _check_ports(session, segment, (source, shape, kind))
            self._segments.append((segment, session, source))
            if segment.map is not None:
                source, shape, kind = segment.map.name, segment.map.shape, segment.map.type

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw log power (n, 1, bands, 600) -> logits (n, 2), window by window."""
        if not self._segments:
            raise ShrikeError(f"{self.name} was closed; give an open one")
        if features.ndim != 4 or features.shape[1:] != self.card.input.shape[1:] or features.dtype != np.float32:
            raise ShrikeError(
                f"features {features.shape} of {features.dtype} came; {('n', *self.card.input.shape[1:])} of float32 "
                "was expected: is this the card's front-end?"
            )
        return np.concatenate([self._decide(window[None]) for window in features])

    def _decide(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[Any] = window
        for segment, session, source in self._segments:
            outputs = [segment.logits, *([segment.map.name] if segment.map else [])]
            said = compute(session, f"{self.name}, {segment.file}", outputs, {source: values})
            logits = said[0]
            if not isinstance(logits, np.ndarray) or logits.shape != (1, OUTPUTS) or logits.dtype != np.float32:
                raise ShrikeError(
                    f"{self.name}: {segment.file} does not give (1, 2) logits of float32; export it again"
                )
            if segment.map is None:
                break
            llr = segment.llr(float(logits[0, 1]) - float(logits[0, 0]))
            if segment.stops(llr):
                logits = self._on_the_networks_scale(llr)
                break
            values = said[1]
        self.decided[segment.exit] += 1
        return logits

    def _on_the_networks_scale(self, llr: float) -> NDArray[np.float32]:
        """Logits (1, 2) to which the card's map gives this LLR."""
        half = (llr - self.card.score.offset) / self.card.score.scale / 2
        return np.array([[-half, half]], np.float32)

    def close(self) -> None:
        self._segments = []


def _check_ports(session: Any, segment: Segment, source: tuple[str, tuple[int, ...], str]) -> None:
    """The graph takes what comes and gives what the card says it gives; types are held here, for a map has several."""
    wanted = [source, (segment.logits, (1, OUTPUTS), "float32")]
    if segment.map is not None:
        wanted.append((segment.map.name, segment.map.shape, segment.map.type))
    ports = [
        (port.name, tuple(port.shape or ()), port.type) for port in (*session.get_inputs(), *session.get_outputs())
    ]
    if ports != [(name, tuple(shape), TYPES[kind]) for name, shape, kind in wanted]:
        raise ShrikeError(f"{segment.file}: the graph has {ports}, its card says {wanted}; export the model again")
