"""Weights of Whisper's encoder from any of its usual files, for train.networks.encoder.

    load_encoder(network, "base.pt")                # OpenAI's checkpoint
    load_encoder(network, "model.safetensors")      # Transformers
    load_encoder(network, "model.bin")              # CTranslate2, as faster-whisper ships it

A file is hostile until read: OpenAI's is opened without running pickle code, the others hold no code; sizes are checked
against the file's before anything is allocated. Layers beyond those of the network are left out.
"""

import pickle
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from runtime.audio.features import DECADES, LOUDEST, MEL_BANDS
from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package
from runtime.support.suggestions import nearby
from train.networks.encoder import EncoderNetwork

Weights = Mapping[str, Tensor]

# A module here -> its name in OpenAI's, Transformers' and CTranslate2's files; {} is a layer's number.
STEM = {"first": ("conv1", "conv1", "conv1"), "second": ("conv2", "conv2", "conv2")}
LAYER = {
    "attention_norm": ("attn_ln", "self_attn_layer_norm", "self_attention/layer_norm"),
    "attention.query": ("attn.query", "self_attn.q_proj", "self_attention/linear_0"),
    "attention.key": ("attn.key", "self_attn.k_proj", "self_attention/linear_0"),
    "attention.value": ("attn.value", "self_attn.v_proj", "self_attention/linear_0"),
    "attention.out": ("attn.out", "self_attn.out_proj", "self_attention/linear_1"),
    "norm": ("mlp_ln", "final_layer_norm", "ffn/layer_norm"),
    "expand": ("mlp.0", "fc1", "ffn/linear_0"),
    "contract": ("mlp.2", "fc2", "ffn/linear_1"),
}
JOINED = ("attention.query", "attention.key", "attention.value")  # one matrix in CTranslate2's
# Of CTranslate2's binary format: the number of a type, and the largest counts that are believed.
DTYPES: dict[int, type[np.generic]] = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
MOST_VARIABLES, MOST_DIMENSIONS = 10_000, 4


def load_encoder(network: EncoderNetwork, path: str | Path) -> None:
    """Load stem and layers; a missing weight or another shape is an error that names the file."""
    path = Path(path)
    if not path.is_file():
        raise ShrikeError(f"--encoder-weights {path}: expected a weights file of Whisper{nearby(path)}")
    try:
        kind, weights = _read(path)
        for part, prefix in _parts(network):
            names = STEM if part is network.stem else LAYER
            for name, module in part.named_modules():
                if name in names:
                    _fill(module, name, weights, kind, prefix[kind], names[name][kind])
    except (KeyError, ValueError, RuntimeError, EOFError, OSError, struct.error, pickle.UnpicklingError) as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ShrikeError(
            f"--encoder-weights {path}: {reason}; expected OpenAI's .pt, Transformers' model.safetensors or "
            "CTranslate2's model.bin of the size of --encoder-size"
        ) from error


def _parts(network: EncoderNetwork) -> Iterator[tuple[nn.Module, tuple[str, str, str]]]:
    yield network.stem, ("encoder.", "encoder.", "encoder/")
    for number, stage in enumerate(network.stages):
        yield stage, (f"encoder.blocks.{number}.", f"encoder.layers.{number}.", f"encoder/layer_{number}/")


def _read(path: Path) -> tuple[int, Weights]:
    """Return the kind of file, as a column of the tables above, and its weights."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head[8:9] == b"{":
        safetensors = require_package("safetensors.torch")
        weights: Weights = safetensors.load_file(path)
        return 1, {name.removeprefix("model."): value for name, value in weights.items()}
    if head[:2] == b"PK" or head[:1] == b"\x80":
        state = torch.load(path, map_location="cpu", weights_only=True)
        return 0, state.get("model_state_dict", state)
    return 2, read_ctranslate2(path)


def _fill(module: nn.Module, name: str, weights: Weights, kind: int, prefix: str, theirs: str) -> None:
    found = dict[str, Tensor]()
    for parameter, _ in module.named_parameters():
        if kind != 2:
            found[parameter] = weights[f"{prefix}{theirs}.{parameter}"]
        else:
            value = _ctranslate2(weights, prefix + theirs, parameter, module)
            found[parameter] = value.chunk(3)[JOINED.index(name)] if name in JOINED else value
    if name == "first":
        found = _lowest_bands(found, module)
    for parameter, value in module.named_parameters():
        shape = tuple(found[parameter].shape)
        if shape != value.shape:
            raise ValueError(f"{prefix}{theirs} has the shape {shape}, {tuple(value.shape)} was expected")
        with torch.no_grad():
            value.copy_(found[parameter])


def _lowest_bands(found: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Cut the first convolution to the bands of the front-end; those above them count as silent."""
    assert isinstance(module, nn.Conv1d)
    weight, bands = found["weight"], module.in_channels
    if weight.dim() != 3 or weight.shape[1] != MEL_BANDS:
        return found
    silent = weight[:, bands:].sum(dim=(1, 2)) * (LOUDEST - DECADES / 4)
    return {"weight": weight[:, :bands], "bias": found["bias"] + silent}


def _ctranslate2(weights: Weights, place: str, parameter: str, module: nn.Module) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        parameter = {"weight": "gamma", "bias": "beta"}[parameter]
    found = weights[f"{place}/{parameter}"]
    if found.dtype in (torch.int8, torch.int16):
        scale = weights[f"{place}/{parameter}_scale"].float()
        found = found.float() / scale.reshape(-1, *[1] * (found.dim() - 1))
    return found.float()


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Read the encoder's variables of a CTranslate2 model.

    Little-endian: version, name, revision, count, then for each its name, shape, type, size in bytes and data. Texts
    are led by their length and end with a zero.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:

        def number(form: str) -> int:
            value: int = struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]
            return value

        def text() -> str:
            return file.read(number("H")).rstrip(b"\0").decode("utf-8")

        version = number("I")
        if not 2 <= version <= 6:
            raise ValueError(f"no model.bin of CTranslate2 (version {version})")
        text(), number("I")
        count, found = number("I"), dict[str, Tensor]()
        if count > MOST_VARIABLES:
            raise ValueError(f"{count:,} variables")
        for _ in range(count):
            name, rank = text(), number("B")
            if rank > MOST_DIMENSIONS:
                raise ValueError(f"{name} has {rank} dimensions")
            shape = [number("I") for _ in range(rank)]
            dtype, bytes_ = DTYPES.get(number("B")), number("I")
            if bytes_ > size - file.tell():
                raise ValueError("the file is truncated")
            if not name.startswith("encoder/") or dtype is None:
                file.seek(bytes_, 1)
                continue
            values = np.frombuffer(file.read(bytes_), dtype).reshape(shape)
            found[name] = torch.from_numpy(values.copy())
    return found
