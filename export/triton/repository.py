"""Write the folder of one model: configuration, version 1, initial states, warm-up sample.

repository/edge/config.pbtxt
                1/model.onnx
                initial_state/1 ...     of a streaming model: states that do not start from zeros
                warmup/features         of a windowed model
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from export.tensorrt.check import read_onnx
from export.triton.config import FILES, ONNX, TENSORRT, WARMUP, build_config, initial_bytes
from runtime.audio.features import FeatureStream
from runtime.card.model_card import ANY_BATCH, ModelCard, read_card
from runtime.engines.model_loader import find_model, model_name
from runtime.engines.onnx import compute, open_session
from runtime.support.atomic import atomic_folder
from runtime.support.errors import ShrikeError

VERSION = "1"
PROBES = 3  # windows with which a graph's open batch is compared with its fixed one
LARGEST_CHANGE = 1e-3  # of a logit: sums of a larger batch may be added in another order
AXIS = "batch"


def write_models(models: Sequence[str], out: Path, batch: int, streams: int) -> Iterator[str]:
    """Write each model's folder; yield a line for each."""
    for wanted in models:
        path = find_model(wanted)
        card = read_card(path)
        name = model_name(path, card)
        folder = out / name
        if folder.exists() and not (folder / "config.pbtxt").is_file():
            raise ShrikeError(f"{folder} is not a model of a repository: remove it, or choose another --out")
        if not name.isprintable() or "/" in name or name.startswith("."):
            raise ShrikeError(f"the card's name {name!a}: expected one that can be a folder's; change it in the card")
        with atomic_folder(folder) as temporary:
            yield f"{folder}: {write_model(name, path, card, temporary, batch, streams)}"


def write_model(name: str, path: Path, card: ModelCard, folder: Path, batch: int, streams: int) -> str:
    """Fill the folder of one model; return its description."""
    platform = TENSORRT if path.suffix == ".engine" else ONNX
    graph = path.read_bytes()
    if card.input.shape[0] != ANY_BATCH:
        if card.state:
            export = "export.trt --streams 16" if platform == TENSORRT else "export.onnx --batch dynamic"
            raise ShrikeError(f"{path} takes one stream at a time; expected any number: python -m {export}")
        opened = open_batch(path, card) if platform == ONNX else None
        graph, batch = (opened, batch) if opened else (graph, 0)
    (folder / VERSION).mkdir()
    (folder / VERSION / FILES[platform]).write_bytes(graph)
    config = build_config(name, card, platform, batch, streams)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    for state, tensor in zip(config.sequence_batching.state, card.state.tensors if card.state else (), strict=True):
        if file := state.initial_state[0].data_file:
            (folder / "initial_state").mkdir(exist_ok=True)
            (folder / "initial_state" / file).write_bytes(initial_bytes(tensor))
    if config.model_warmup:
        (folder / "warmup").mkdir()
        (folder / "warmup" / WARMUP).write_bytes(example(card).tobytes())
    batching = f"up to {batch} at once" if batch else "one at a time: its batch is fixed"
    return f"{'streaming' if card.state else 'windowed'} model, {platform}, {batching}"


def example(card: ModelCard, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return features (1, bands, frames) of quiet noise."""
    frontend, (_, bands, frames) = card.frontend, card.input.shape[1:]
    samples = frontend.window + frontend.hop * (frames - 1)
    noise = np.random.default_rng(seed).normal(0, 0.03, samples).astype(np.float32)
    found = FeatureStream(frontend).push(noise)
    return np.ascontiguousarray(found.T.reshape(1, bands, frames), np.float32)


def open_batch(path: Path, card: ModelCard) -> bytes | None:
    """Return the graph of a windowed model for any number of windows; None if it computes other logits then."""
    model = read_onnx(path)
    del model.graph.value_info[:]  # shapes of the fixed batch
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = AXIS
    opened: bytes = model.SerializeToString()
    windows = np.stack([example(card, seed) for seed in range(PROBES)])
    wanted = _logits(path.read_bytes(), card, windows[:, None])
    try:
        found = _logits(opened, card, windows[None])
    except ShrikeError:  # a Reshape to one window
        return None
    return opened if found.shape == wanted.shape and np.abs(found - wanted).max() <= LARGEST_CHANGE else None


def _logits(graph: bytes, card: ModelCard, batches: Any) -> Any:
    """Compute batches (runs, n, 1, bands, frames) in one session: logits (runs * n, 2)."""
    session, _, _ = open_session(graph, card.name, 1, "cpu")
    return np.concatenate(
        [compute(session, card.name, [card.output.name], {card.input.name: windows})[0] for windows in batches]
    )
