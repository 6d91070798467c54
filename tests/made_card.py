"""A card for synthetic models; tests replace single entries."""

from pathlib import Path
from typing import Any

from runtime.audio.features import FrontEnd
from runtime.card import model_card as cards
from runtime.card.checksums import sha256_file
from runtime.card.model_card import ModelCard, write_card


def plain_card(frontend: FrontEnd, **entries: Any) -> ModelCard:
    """For one window of the front-end at a time; `entries` in place of these, `files` among them."""
    plain = {
        "version": cards.VERSION,
        "name": "made",
        "created": cards.created_now(),
        "network": cards.Network("made", 1.0, 4),
        "frontend": frontend,
        "input": cards.TensorSpec("features", (1, 1, frontend.bands, frontend.width)),
        "output": cards.TensorSpec("logits", (1, 2)),
        "state": None,
        "precision": "fp32",
        "target": "any",
        "score": cards.ScoreMap(1.0, 0.0, 0.0, None),
        "accuracy": cards.Accuracy(False, "random weights", None, 0, *[None] * 7),
        "calibration": None,
        "quantisation": None,
        "training": None,
        "origin": cards.Origin("0.1.0", {}),
        "tensorrt": None,
        "notes": (),
    }
    return ModelCard(**plain | entries)


def made_card(path: Path, frontend: FrontEnd, **entries: Any) -> None:
    """The same beside the model at `path`, for which it speaks."""
    write_card(path, plain_card(frontend, files={path.name: sha256_file(path)}, **entries))
