"""Repositories for Triton: valid for Triton's own message, batches that compute the same, states that start right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

for package in ("tritonclient.grpc", "onnx"):
    pytest.importorskip(package, reason="pip install '.[triton]'")

from google.protobuf import text_format  # noqa: E402
from tritonclient.grpc import model_config_pb2 as pb  # noqa: E402

from export.triton.config import check_order  # noqa: E402
from export.triton.repository import example, write_models  # noqa: E402
from runtime.card.checksums import sha256_file  # noqa: E402
from runtime.card.model_card import StateTensor, TensorRT, read_card, write_card  # noqa: E402
from runtime.engines import initial_states  # noqa: E402
from runtime.engines.model_loader import find_model  # noqa: E402
from runtime.support.errors import ShrikeError  # noqa: E402
from tests.runtime.made_steps import made_steps  # noqa: E402


def config(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


def test_a_windowed_model_gets_an_open_batch_and_a_sample(tmp_path: Path) -> None:
    assert len(list(write_models(["f0"], tmp_path, 8, 64))) == 1
    found, card = config(tmp_path / "f0"), read_card(find_model("f0"))
    assert found.name == "f0" and found.max_batch_size == 8 and found.HasField("dynamic_batching")
    assert not found.HasField("sequence_batching")
    (sample, *_) = found.model_warmup
    content = (tmp_path / "f0" / "warmup" / sample.inputs["features"].input_data_file).read_bytes()
    assert len(content) == 4 * np.prod(sample.inputs["features"].dims)
    windows = np.stack([example(card, seed) for seed in (7, 8)])
    opened, fixed = (onnxruntime.InferenceSession(path) for path in (tmp_path / "f0/1/model.onnx", find_model("f0")))
    together = opened.run(None, {"features": windows})[0]
    apart = np.concatenate([fixed.run(None, {"features": window[None]})[0] for window in windows])
    np.testing.assert_allclose(together, apart, atol=1e-4)


@pytest.mark.parametrize("made", [True, False])
def test_a_streaming_model_gets_its_states_with_their_initial_values(tmp_path: Path, made: bool) -> None:
    model = str(made_steps(tmp_path)) if made else "edge"
    list(write_models([model], tmp_path / "repository", 16, 64))
    (folder,) = (tmp_path / "repository").iterdir()
    found, card = config(folder), read_card(find_model(model))
    assert card.state and not found.model_warmup  # Triton could not store the sample's states
    batching = found.sequence_batching
    assert batching.oldest.max_candidate_sequences == 64 and not batching.control_input
    wanted = initial_states(card.state, 1)
    assert len(batching.state) == len(wanted)
    for state, tensor, values in zip(batching.state, card.state.tensors, wanted, strict=True):
        assert (state.input_name, state.output_name) == (tensor.input, tensor.output)
        assert tuple(state.dims) == tuple(state.initial_state[0].dims) == tensor.shape  # without the batch
        if file := state.initial_state[0].data_file:
            content = np.frombuffer((folder / "initial_state" / file).read_bytes(), values.dtype)
            np.testing.assert_array_equal(content, values.ravel())
        else:
            assert state.initial_state[0].zero_data and not values.any()
    for port in onnxruntime.InferenceSession(folder / "1/model.onnx").get_inputs():
        assert not isinstance(port.shape[0], int)  # states, too, have the batch first


def test_a_model_replaces_only_a_folder_of_its_kind(tmp_path: Path) -> None:
    for _ in range(2):
        list(write_models(["f0"], tmp_path, 8, 64))
    (tmp_path / "f0" / "config.pbtxt").unlink()
    with pytest.raises(ShrikeError):
        list(write_models(["f0"], tmp_path, 8, 64))


@pytest.mark.parametrize("streaming", [True, False])
def test_an_engine_gets_the_tensorrt_back_end(tmp_path: Path, streaming: bool) -> None:
    card = read_card(made_steps(tmp_path) if streaming else find_model("f0"))  # f0's batch is fixed
    (tmp_path / "model.engine").write_bytes(b"a plan")
    digest = next(iter(card.files.values()))
    built = TensorRT("10.3.0", "Orin", "8.7", None, digest, 256, "fp16", (), 0, None)
    files = {"model.engine": sha256_file(tmp_path / "model.engine")}
    write_card(tmp_path / "model.engine", replace(card, files=files, tensorrt=built))
    list(write_models([str(tmp_path / "model.engine")], tmp_path / "repository", 16, 64))
    found = config(tmp_path / "repository" / card.name)
    assert (found.platform, found.backend) == ("tensorrt_plan", "tensorrt")
    assert found.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert (tmp_path / "repository" / card.name / "1" / found.default_model_filename).read_bytes() == b"a plan"
    assert found.parameters["shrike_onnx_sha256"].string_value == digest  # as of the ONNX file: clients may have either
    assert found.max_batch_size == (16 if streaming else 0)
    assert list(found.input[0].dims) == list(card.input.shape[1:] if streaming else card.input.shape)
    assert found.HasField("sequence_batching") == streaming and not found.HasField("dynamic_batching")


def test_a_stream_at_a_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShrikeError):
        list(write_models([str(made_steps(tmp_path, batch=1))], tmp_path / "repository", 16, 64))


def test_names_that_triton_would_pair_wrongly_are_refused() -> None:
    """Sorted, "a.n.past" comes before "a.past", but "a.n.kept" after "a.kept"."""

    def state(before: str, after: str) -> StateTensor:
        return StateTensor(before, after, (2,), "float32", (0.0,))

    check_order((state("b.past", "b.kept"), state("a.past", "a.kept")))
    with pytest.raises(ShrikeError):
        check_order((state("a.past", "a.kept"), state("a.n.past", "a.n.kept")))
