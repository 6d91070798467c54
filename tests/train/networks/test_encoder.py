"""The encoder network: its front-end against torchaudio, Whisper's weights in three formats, exits, what trains, and
its export: one exit, INT8, and two networks fused."""

import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from export import graph
from export.int8 import quantize
from export.int8.calibration import find_ranges
from export.model_graph import trace
from export.strip import Fused, strip
from export.tensorrt.check import check
from runtime.audio.features import PRESETS, level
from runtime.support.errors import ShrikeError
from tests.export.small import logits_of, windowed
from train.checkpoint import Checkpoint, RunProgress, build_network, versions
from train.config import Data, Distillation, Model, TrainConfig
from train.losses.distillation import DistillationModel
from train.losses.optimiser import adam
from train.networks import build
from train.networks.encoder import EncoderNetwork
from train.networks.whisper import load_encoder

MEL = PRESETS["mel"]
LAYERS = 2


def network(tuned: int = 0, layers: int = LAYERS) -> EncoderNetwork:
    torch.manual_seed(0)
    made = build("encoder", loss="crossentropy", encoder=("tiny", layers, tuned))
    assert isinstance(made, EncoderNetwork)
    return made.eval()


def windows(count: int = 2) -> torch.Tensor:
    """Raw log power of noise that swells, (count, 1, 80, 500)."""
    rng = np.random.default_rng(1)
    sound = rng.standard_normal((count, 80_240)) * np.linspace(0.001, 0.3, 80_240)
    return torch.from_numpy(np.stack([MEL.frames(clip.astype(np.float32)).T for clip in sound]))[:, None]


def checkpoint(name: str = "encoder", level_: str = "window-max") -> Checkpoint:
    torch.manual_seed(2)
    settings = TrainConfig(
        Data(Path("none"), frontend="mel", level=level_),  # type: ignore[arg-type]
        Model(name, 1.0 if name == "encoder" else 0.25, encoder_size="tiny", layers=LAYERS),
        Distillation(loss="crossentropy"),
    )
    model = DistillationModel(build_network(settings), settings.distillation)
    model.train()
    with torch.no_grad():
        model.scores(torch.randn(4, 1, 80, 500) / 3 + 0.5)  # statistics of batch norms
    assert model.helpers is not None
    weights, helpers = model.network.state_dict(), model.helpers.state_dict()
    return Checkpoint(settings, weights, helpers, {}, RunProgress(1, 0, 10), [], {"train": "0" * 64}, versions())


# ---- front-end -------------------------------------------------------------------------------------------------------


def test_the_features_are_whispers() -> None:
    """Whisper centres its frames: a signal that begins 200 samples later has its frame 2 where our frame 2 is."""
    bank = melscale_fbanks(201, 0.0, 8000.0, 80, 16_000, norm="slaney", mel_scale="slaney").T.double()
    assert np.abs(MEL.matrix - bank.numpy()).max() < 1e-6
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(80_240).cumsum() * 0.01
    sound -= sound.mean()
    from runtime.audio.high_pass import HighPass

    filtered = torch.from_numpy(HighPass(16_000).push(sound.astype(np.float32)))
    hann = torch.hann_window(400, dtype=torch.float64)
    spectrum = torch.stft(filtered[200:], 400, 160, window=hann, return_complex=True)[:, 2:490].abs() ** 2
    whisper = (bank @ spectrum).clamp_min(1e-10).log10()
    whisper = (whisper.maximum(whisper.max() - 8) + 4) / 4
    ours = level(MEL.frames(sound.astype(np.float32))[2:490], "window-max").T
    offset = whisper.max().item() - ours.max()
    assert np.abs(whisper.numpy() - offset - ours).max() < 1e-4


def test_gain_cannot_matter() -> None:
    raw = windows(1)[0, 0].numpy().T
    assert np.abs(level(raw, "window-max") - level(raw - 5.0, "window-max")).max() < 1e-5


# ---- weights ---------------------------------------------------------------------------------------------------------

OPENAI = {"stem.first": "conv1", "stem.second": "conv2", "attention_norm": "attn_ln", "attention.query": "attn.query",
          "attention.key": "attn.key", "attention.value": "attn.value", "attention.out": "attn.out", "norm": "mlp_ln",
          "expand": "mlp.0", "contract": "mlp.2"}  # fmt: skip
TRANSFORMERS = {"stem.first": "conv1", "stem.second": "conv2", "attention_norm": "self_attn_layer_norm",
                "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
                "attention.value": "self_attn.v_proj", "attention.out": "self_attn.out_proj",
                "norm": "final_layer_norm", "expand": "fc1", "contract": "fc2"}  # fmt: skip


def named(source: EncoderNetwork, names: dict[str, str], layers: str) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in source.state_dict().items():
        part, _, parameter = name.rpartition(".")
        if part in ("stem.first", "stem.second"):
            found[f"encoder.{names[part]}.{parameter}"] = value
        elif part.startswith("stages."):
            number, _, inner = part.removeprefix("stages.").partition(".")
            found[f"encoder.{layers}.{number}.{names[inner]}.{parameter}"] = value
    return found


def write_openai(source: EncoderNetwork, path: Path) -> None:
    torch.save({"dims": {"n_mels": 80}, "model_state_dict": named(source, OPENAI, "blocks")}, path)


def write_transformers(source: EncoderNetwork, path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    found = {f"model.{name}": value.clone() for name, value in named(source, TRANSFORMERS, "layers").items()}
    safetensors.save_file(found, path)


def write_ctranslate2(source: EncoderNetwork, path: Path, kind: str = "float32") -> None:
    """As CTranslate2 4 writes version 6: query, key and value in one matrix; in int8, an integer is value x scale."""
    variables: dict[str, np.ndarray] = {"decoder/embeddings/weight": np.zeros((3, 4), np.float32)}
    for place, convolution in (("conv1", source.stem.first), ("conv2", source.stem.second)):  # type: ignore[union-attr]
        variables[f"encoder/{place}/weight"] = convolution.weight.detach().numpy()  # type: ignore[union-attr]
        variables[f"encoder/{place}/bias"] = convolution.bias.detach().numpy()  # type: ignore[union-attr]
    for number, layer in enumerate(source.stages):
        base, attention = f"encoder/layer_{number}", layer.attention
        for place, norm in (("self_attention", layer.attention_norm), ("ffn", layer.norm)):
            variables[f"{base}/{place}/layer_norm/gamma"] = norm.weight.detach().numpy()
            variables[f"{base}/{place}/layer_norm/beta"] = norm.bias.detach().numpy()
        joined = torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]).detach().numpy()
        bias = torch.cat([attention.query.bias, torch.zeros(len(attention.query.bias)), attention.value.bias])
        pairs = {"self_attention/linear_0": (joined, bias.detach().numpy())}
        for place, linear in (("self_attention/linear_1", attention.out), ("ffn/linear_0", layer.expand),
                              ("ffn/linear_1", layer.contract)):  # fmt: skip
            pairs[place] = (linear.weight.detach().numpy(), linear.bias.detach().numpy())
        for place, (weight, offset) in pairs.items():
            variables[f"{base}/{place}/weight"], variables[f"{base}/{place}/bias"] = weight, offset
            if kind == "int8":
                scale = 127 / np.abs(weight).max(axis=1)
                variables[f"{base}/{place}/weight"] = np.rint(weight * scale[:, None]).astype(np.int8)
                variables[f"{base}/{place}/weight_scale"] = scale.astype(np.float32)
    if kind == "float16":
        variables = {name: value.astype(np.float16) for name, value in variables.items()}
    types = {np.dtype(np.float32): 0, np.dtype(np.int8): 1, np.dtype(np.float16): 4}
    with open(path, "wb") as file:

        def text(value: str) -> None:
            file.write(struct.pack("<H", len(value) + 1) + value.encode() + b"\0")

        file.write(struct.pack("<I", 6))
        text("WhisperSpec")
        file.write(struct.pack("<II", 3, len(variables)))
        for name, value in variables.items():
            text(name)
            file.write(struct.pack("<B", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape))
            file.write(struct.pack("<BI", types[value.dtype], value.nbytes) + value.tobytes())


@pytest.mark.parametrize("write", [write_openai, write_transformers, write_ctranslate2])
def test_weights_of_every_format_give_the_same_outputs(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = network(layers=3)  # the file has a layer more than is built
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.05)
    write(source, tmp_path / "weights.bin")
    loaded = network()
    load_encoder(loaded, tmp_path / "weights.bin")
    features = torch.randn(1, 1, 80, 100)
    with torch.no_grad():
        pairs = zip(loaded.pooled_statistics(features), source.pooled_statistics(features), strict=False)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_without_the_highest_bands_the_encoder_computes_what_it_does_for_silence_there(tmp_path: Path) -> None:
    source, fewer = network(), build("encoder", loss="crossentropy", encoder=("tiny", LAYERS, 0), bands=76)
    assert isinstance(fewer, EncoderNetwork)
    write_openai(source, tmp_path / "base.pt")
    load_encoder(fewer, tmp_path / "base.pt")
    features = torch.rand(1, 1, 80, 100) * 2 - 0.5
    features[:, :, 76:] = float(level(np.array([[0.0, -100.0]], np.float32), "window-max").min())
    inside = slice(1, -1)  # the zeros around a window are not silence
    with torch.no_grad():
        assert torch.allclose(fewer.stem(features[:, :, :76])[:, inside], source.stem(features)[:, inside], atol=1e-5)
    short = PRESETS["mel7k"]
    assert np.array_equal(short.matrix, MEL.matrix[:76]) and short.passband[1] < 7000 < MEL.passband[1]


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_quantised_weights_are_scaled_back(kind: str, tmp_path: Path) -> None:
    source, loaded = network(), network()
    write_ctranslate2(source, tmp_path / "model.bin", kind)
    load_encoder(loaded, tmp_path / "model.bin")
    for (name, value), again in zip(source.stages.named_parameters(), loaded.stages.parameters(), strict=True):
        assert torch.allclose(again, value, atol=0.6 / 127 * float(value.abs().max())), name


@pytest.mark.parametrize("damage", ["truncated", "count", "other size", "text", "empty"])
def test_a_damaged_file_is_one_error_that_names_it(damage: str, tmp_path: Path) -> None:
    path, source = tmp_path / "model.bin", network()
    write_ctranslate2(source, path)
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "count":
        path.write_bytes(data[:18] + b"\xff" * 8 + data[26:])
    elif damage in ("text", "empty"):
        path.write_bytes(b"not weights at all" if damage == "text" else b"")
    target = network() if damage != "other size" else build("encoder", encoder=("base", 1, 0))
    assert isinstance(target, EncoderNetwork)
    with pytest.raises(ShrikeError) as error:
        load_encoder(target, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuned", [0, 1, 2, 3])
def test_only_the_last_layers_train(tuned: int) -> None:
    made = network(tuned)
    made.train()
    made(torch.randn(2, 1, 80, 60)).sum().backward()
    trained = {name.split(".")[0] + name.split(".")[1] for name, p in made.named_parameters() if p.grad is not None}
    wanted = {f"stages{number}" for number in range(LAYERS) if number >= LAYERS - tuned}
    wanted |= {"stemfirst", "stemsecond"} if tuned > LAYERS else set()
    assert {name for name in trained if name.startswith(("stages", "stem"))} == wanted


def test_the_encoders_own_rate_is_a_share_of_the_others() -> None:
    settings = TrainConfig(Data(Path("none"))).optimiser
    model = DistillationModel(network(tuned=1), Distillation("off", loss="crossentropy"))
    groups = adam(model, settings, encoder_rate=0.1).param_groups
    assert [group["factor"] for group in groups] == [1.0, 0.1]
    inner = sum(p.numel() for p in model.network.stages[1].parameters())
    assert sum(p.numel() for p in groups[1]["params"]) == inner


# ---- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit", [1, 2])
def test_an_exit_ships_its_scores_and_no_later_layer(exit: int) -> None:
    source, raw = checkpoint(), windows()
    deployed = strip(source, exit)
    with torch.no_grad():
        features = torch.from_numpy(np.stack([level(clip[0].T, "window-max").T for clip in raw.numpy()]))[:, None]
        expected = source.distillation_model().scores(features)[:, exit - 1]
        logits = deployed(raw)
    assert torch.allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-4)
    model = trace(deployed, MEL).graph
    assert sum(node.op_type == "Softmax" for node in model.graph.node) == exit
    assert not any(node.name.startswith(f"stages.{exit}.") for node in model.graph.node)


def test_a_fused_graph_in_int8_has_the_mean_of_both_scores() -> None:
    members, raw = [strip(checkpoint()), strip(checkpoint("ecanet9"))], windows(4)
    with torch.no_grad():
        expected = (members[0](raw) + members[1](raw)) / 2
    model = trace(Fused(members).eval(), MEL).graph
    each = [clip[None] for clip in raw.numpy()]
    assert np.abs(logits_of(model, each) - expected.numpy()).max() < 1e-4
    layers = quantize.plan(model)
    products = [layer for layer in layers if layer.operation == "MatMul"]
    assert len(products) == 6 * LAYERS  # query, key, value, out, expand, contract; not the attention's own products
    assert any(layer.name.startswith("members.1.") for layer in layers)
    ranges = find_ranges(windowed(model), quantize.tensors(layers), each, "min-max")
    small = quantize.quantise(model, layers, ranges, "uint8")
    error = graph.score(logits_of(small, each)) - graph.score(expected.numpy())
    assert np.abs(error).max() < 0.1 * np.abs(graph.score(expected.numpy())).max() + 0.05
    assert small.ByteSize() < 0.4 * model.ByteSize()
    check(quantize.quantise(model, layers, ranges, "int8"), "fused")


def test_a_layer_that_stays_float_is_stored_in_int8_for_cpus(tmp_path: Path) -> None:
    """So that --min-snr costs time, not size; and the others must not end as a Gemm, which computes in float."""
    model, each = trace(strip(checkpoint()), MEL).graph, [clip[None] for clip in windows(4).numpy()]
    layers = quantize.plan(model)
    (head,) = (item for item in model.graph.initializer if item.name == "head.weight")
    weights, lead = onnx.numpy_helper.to_array(head), np.arange(2 * LAYERS * 384 + 768)
    head.CopyFrom(onnx.numpy_helper.from_array(weights * np.where(lead == 5, 100, 1).astype(np.float32), head.name))
    ranges = find_ranges(windowed(model), quantize.tensors(layers), each, "min-max")
    none, all_ = (quantize.quantise(model, some, ranges, "uint8") for some in ([], layers))
    assert none.ByteSize() < 0.3 * model.ByteSize()
    expected = graph.score(logits_of(model, each))
    assert np.abs(graph.score(logits_of(none, each)) - expected).max() < 0.03 * np.abs(expected).max() + 0.01
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(all_.SerializeToString(), options, providers=["CPUExecutionProvider"])
    computed = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert computed.count("MatMulIntegerToFloat") == len(layers)
