"""The command: what it leaves behind with TensorRT (a MOCK), without it, and without torch."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export import trt as command
from export.tensorrt import device as devices
from export.tensorrt.builder import BuildOptions
from export.tensorrt.device import TRTEXEC, BuildDevice, NoDeviceError, trtexec
from export.tensorrt.engine_writer import UNVERIFIED, read_job
from runtime.card.model_card import State, StateTensor, TensorSpec, read_card, write_card
from runtime.engines.cuda import CudaError
from runtime.support.command import run
from runtime.support.errors import ShrikeError
from tests.export.mock_tensorrt import MockCuda, MockTensorRT
from tests.export.small import exported, float_graph, quantised_graph

ROOT = Path(__file__).resolve().parent.parent.parent
MISSING = "TensorRT is not installed for this Python"
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ModuleNotFoundError(f"{name} is not on this machine", name=name)
sys.meta_path.insert(0, Missing())
from export import trt
from export.tensorrt import device
from runtime.support.command import run
from tests.export.mock_tensorrt import MockCuda, MockTensorRT
"""


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """main() with these arguments; the caller's capsys has what it printed."""
    monkeypatch.setattr(sys, "argv", ["export.trt", *map(str, arguments)])
    return command.main()


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(devices, "l4t", lambda: None)


@pytest.fixture
def mocked(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockTensorRT]:
    """A machine with a MOCK of TensorRT 10.3 whose engines give the sum of the window."""
    trt = MockTensorRT("10.3.0", batch=1)
    device = BuildDevice(trt, MockCuda(), "10.3.0.9", "36.4.3", 900)
    monkeypatch.setattr(devices, "find_device", lambda: device)
    return trt


def run_alone(program: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)


# ---- without TensorRT


def test_without_tensorrt_all_else_is_done_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, no_tensorrt: None
) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9"))
    before = sorted(os.listdir(tmp_path))
    assert call(monkeypatch, path, "--workspace", "128", "--timing-cache", tmp_path / "a b.cache") == 4
    out, err = capsys.readouterr()
    assert not out and sorted(os.listdir(tmp_path)) == before
    line = next(text for text in err.splitlines() if "--int8" in text)
    assert shlex.split(line[line.index(TRTEXEC) :]) == [
        TRTEXEC,
        f"--onnx={path}",
        f"--saveEngine={tmp_path / 'model.engine'}",
        "--memPoolSize=workspace:128",
        "--int8",
        "--fp16",
        "--tacticSources=-CUDNN,-CUBLAS,-CUBLAS_LT",
        f"--timingCacheFile={tmp_path / 'a b.cache'}",
        "--profilingVerbosity=detailed",
    ]
    assert read_card(path).tensorrt is None


def test_the_trtexec_line_says_what_the_builder_does(tmp_path: Path) -> None:
    path = exported(tmp_path, float_graph("ecanet9", dynamic=True))
    job = read_job(path, Path("m.engine"), BuildOptions("fp16", 256))
    half = trtexec(job)
    assert "--fp16" in half and "--int8" not in half and "--shapes=features:1x1x45x600" in half
    wide = trtexec(replace(job, path=Path("m.onnx"), build=BuildOptions("fp32", 256)))
    assert "--noTF32" in wide and "16" not in wide.replace("x1x", "")
    newest = trtexec(replace(job, build=BuildOptions("int8", 256)), strongly_typed=True)
    assert not re.search("--int8|--fp16|tacticSources", newest)


def test_an_onnx_file_needs_no_torch(tmp_path: Path) -> None:
    """On the device: an ONNX file, no torch, no TensorRT. In a process where importing torch is an error."""
    path = exported(tmp_path, quantised_graph("ecanet9"))
    program = WITHOUT % (["torch", "torchaudio", "tensorrt"],) + "run(trt.main)"
    done = run_alone(program, path)
    assert done.returncode == 4 and MISSING in done.stderr and "Traceback" not in done.stderr


def test_build_and_verification_need_no_torch(tmp_path: Path) -> None:
    path = exported(tmp_path, summing(1.0))
    corpus = make_corpus(tmp_path / "corpus")
    program = WITHOUT % (["torch", "torchaudio"],) + (
        "mock = MockTensorRT('8.6.1', batch=1)\n"
        "device.find_device = lambda: device.BuildDevice(mock, MockCuda(), '8.6.1.9', None, None)\n"
        "run(trt.main)"
    )
    options = ["--precision", "fp32", "--verification", corpus, "--cache", tmp_path / "cache"]
    done = run_alone(program, path, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "model.engine")


def test_a_checkpoint_gives_the_onnx_file_and_then_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, no_tensorrt: None
) -> None:
    from train.checkpoint import Checkpoint, RunProgress, write_checkpoint
    from train.config import Data, Distillation, Model, TrainConfig
    from train.networks import build

    settings = TrainConfig(Data(tmp_path), Model("ecanet9", 0.25), Distillation("off"))
    checkpoint = Checkpoint(settings, build("ecanet9", 0.25).state_dict(), {}, {}, RunProgress(), [], {}, {})
    write_checkpoint(tmp_path / "model.pt", checkpoint)
    assert call(monkeypatch, tmp_path / "model.pt", "--precision", "fp16") == 4
    assert MISSING in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.onnx", "model.pt"]
    assert read_card(tmp_path / "model.json").files.keys() == {"model.onnx"}


def test_the_device_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, mocked: MockTensorRT) -> None:
    assert call(monkeypatch, tmp_path / "model.onnx", "--precision", "fp16", "--device-check") == 0
    out = capsys.readouterr().out
    assert all(fact in out for fact in ("10.3.0.9", "Mock Orin", "8.7", "36.4.3", "900 MiB", "1,280 MiB"))


def test_the_device_check_without_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, no_tensorrt: None
) -> None:
    for words in (["--device-check"], [tmp_path / "model.onnx", "--device-check"]):
        assert call(monkeypatch, *words) == 4
        assert MISSING in capsys.readouterr().out


def test_an_old_tensorrt_and_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    trt = MockTensorRT("8.5.3")
    monkeypatch.setattr(devices, "load_tensorrt", lambda: trt)

    def no_gpu() -> None:
        raise CudaError("MOCK no GPU")

    monkeypatch.setattr(devices, "open_cuda", no_gpu)
    with pytest.raises(NoDeviceError):
        devices.find_device()
    trt.__version__ = "8.4.1.5"
    with pytest.raises(NoDeviceError):
        devices.find_device()


# ---- refused before anything is built


def test_a_u8_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9", "uint8"))
    with pytest.raises(ShrikeError):
        call(monkeypatch, path)


@pytest.mark.parametrize(
    "arguments",
    [["--precision", "fp16"], ["--workspace", "0"], ["--calibration", "corpus"], ["--exit", "2"]],
    ids=lambda arguments: arguments[0],
)
def test_options_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9"))
    with pytest.raises(ShrikeError, match=arguments[0]):
        call(monkeypatch, path, *arguments)


def test_a_float_file_is_not_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ShrikeError):
        call(monkeypatch, exported(tmp_path, float_graph("ecanet9")))


def test_a_file_without_card_or_with_another_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9"))
    path.write_bytes(quantised_graph("senet9").SerializeToString())
    with pytest.raises(ShrikeError):
        call(monkeypatch, path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ShrikeError):
        call(monkeypatch, path)


# ---- with a MOCK of TensorRT


def test_an_engine_gets_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, mocked: MockTensorRT
) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9"))
    onnx_hash = read_card(path).files["model.onnx"]
    assert call(monkeypatch, path) == 0
    out, _ = capsys.readouterr()
    assert out == f"{tmp_path / 'model.engine'}\n"
    card = read_card(tmp_path / "model.json")
    assert (tmp_path / "model.engine").read_bytes() == b"MOCK plan"  # nothing is prepended: trtexec can load it
    assert set(card.files) == {"model.engine", "model.onnx"} and card.target == "tensorrt"
    record = card.tensorrt
    assert record is not None and (record.version, record.gpu, record.capability) == ("10.3.0.9", "Mock Orin", "8.7")
    assert (record.l4t, record.onnx_sha256, record.workspace) == ("36.4.3", onnx_hash, 256)
    assert (record.precision, record.trials, record.largest_change) == ("int8", 0, None)
    assert call(monkeypatch, path) == 0  # again, over what stands there
    assert read_card(tmp_path / "model.json").notes == card.notes == (UNVERIFIED,)


def test_an_engine_elsewhere_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocked: MockTensorRT
) -> None:
    path = exported(tmp_path / "onnx", float_graph("ecanet9"))
    assert call(monkeypatch, path, "--precision", "fp16", "--out", tmp_path / "jetson" / "door") == 0
    assert sorted(os.listdir(tmp_path / "jetson")) == ["door.engine", "door.json"]
    card = read_card(tmp_path / "jetson" / "door.json")
    assert card.files.keys() == {"door.engine"} and card.precision == "fp32"
    assert card.tensorrt is not None and card.tensorrt.precision == "fp16"
    assert read_card(path).tensorrt is None


def test_an_engine_of_trtexec_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mocked: MockTensorRT) -> None:
    path = exported(tmp_path, quantised_graph("ecanet9"))
    (tmp_path / "by-hand.plan").write_bytes(b"MOCK plan of trtexec")
    assert call(monkeypatch, path, "--built", tmp_path / "by-hand.plan") == 0
    assert (tmp_path / "model.engine").read_bytes() == b"MOCK plan of trtexec"
    with pytest.raises(ShrikeError):
        call(monkeypatch, path, "--built", tmp_path / "none.plan")


def make_corpus(folder: Path) -> Path:
    """Eight clips of noise, louder ones called bona fide: enough for an EER, not for a verdict."""
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    (folder / "protocols").mkdir(parents=True)
    lines = []
    for number in range(8):
        name, bonafide = f"N_{number}", number % 2
        samples = (0.2 if bonafide else 0.01) * rng.standard_normal(90_000)
        soundfile.write(folder / f"{name}.wav", np.clip(samples, -1, 1), 16_000)
        lines.append(f"S_{number} {name} - {'-' if bonafide else 'A01'} {'bonafide' if bonafide else 'spoof'}")
    (folder / "protocols" / "dev.txt").write_text("\n".join(lines) + "\n")
    return folder


def summing(sign: float) -> onnx.ModelProto:
    """The graph of the MOCK engine: (0, sum of the window), times `sign`."""
    from onnx import helper, numpy_helper

    constants = {
        "factor": np.array([[0.0], [sign * 45 * 600]], np.float32),
        "bias": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["features"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "factor", "bias"], ["logits"], "head", transB=1),
    ]
    ports = [("features", (1, 1, 45, 600)), ("logits", (1, 2))]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in ports]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "summing", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_an_engine_is_compared_with_its_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, mocked: MockTensorRT
) -> None:
    path = exported(tmp_path / "deploy", summing(1.0))
    corpus = make_corpus(tmp_path / "corpus")
    options = ["--precision", "fp32", "--verification", corpus, "--cache", tmp_path / "cache"]
    assert call(monkeypatch, path, *options) == 0
    card = read_card(tmp_path / "deploy" / "model.json")
    assert card.tensorrt is not None and card.tensorrt.trials == 8 and not card.notes
    assert card.tensorrt.largest_change is not None and card.tensorrt.largest_change < 1.0  # of sums around 200,000


def test_an_engine_that_is_worse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, mocked: MockTensorRT
) -> None:
    path = exported(tmp_path / "deploy", summing(-1.0))  # the engine gives the opposite
    corpus = make_corpus(tmp_path / "corpus")
    # Where quieter is bona fide the graph is right and the engine wrong.
    protocol = tmp_path / "turned.txt"
    text = (corpus / "protocols" / "dev.txt").read_text()
    turned = [line.replace("- bonafide", "A01 spoof") if "bonafide" in line else line.replace("A01 spoof", "- bonafide")
              for line in text.splitlines()]  # fmt: skip
    protocol.write_text("\n".join(turned) + "\n")
    options = ["--precision", "fp32", "--verification", corpus, "--cache", tmp_path / "cache"]
    with pytest.raises(SystemExit) as left:
        run(lambda: call(monkeypatch, path, *options, "--verification-protocol", protocol))
    assert left.value.code == 3
    out, err = capsys.readouterr()
    assert not out and "EER rises by 100.00 % absolute" in " ".join(err.split())
    assert sorted(os.listdir(tmp_path / "deploy")) == ["model.json", "model.onnx"]
    assert read_card(path).tensorrt is None


def summing_steps(sign: float) -> onnx.ModelProto:
    """The graph of the MOCK streaming engine: (0, sum of the new frames and the state), and the state plus 1."""
    from onnx import helper, numpy_helper

    model = summing(sign)
    constants = {"one": np.ones(1, np.float32), "factor": np.array([[0.0], [sign]], np.float32)}
    biases = [item for item in model.graph.initializer if item.name == "bias"]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(
        [*biases, *(numpy_helper.from_array(value, name) for name, value in constants.items())]
    )
    model.graph.node.extend([
        helper.make_node("ReduceSum", ["features"], ["frames"], "frames", keepdims=0),
        helper.make_node("ReduceSum", ["past"], ["before"], "before", keepdims=0),
        helper.make_node("Add", ["frames", "before"], ["sum"], "sum"),
        helper.make_node("Reshape", ["sum", "shape"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "factor", "bias"], ["logits"], "head", transB=1),
        helper.make_node("Add", ["past", "one"], ["kept"], "renewed"),
    ])  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "shape"))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 16
    model.graph.input.append(helper.make_tensor_value_info("past", onnx.TensorProto.FLOAT, (1, 3)))
    model.graph.output.append(helper.make_tensor_value_info("kept", onnx.TensorProto.FLOAT, (1, 3)))
    return model


def test_a_streaming_engine_is_compared_with_its_onnx_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    trt = MockTensorRT("10.3.0", batch=1, states=(("past", "kept", (3,)),))
    device = BuildDevice(trt, MockCuda(), "10.3.0.9", "36.4.3", 900)
    monkeypatch.setattr(devices, "find_device", lambda: device)
    path = exported(tmp_path / "deploy", summing_steps(1.0))
    card = replace(
        read_card(path),
        input=TensorSpec("features", (1, 1, 45, 16)),
        state=State(16, (StateTensor("past", "kept", (3,), "float32", (5.0,)),)),
    )
    write_card(path, card)
    corpus = make_corpus(tmp_path / "corpus")
    options = ["--precision", "fp32", "--verification", corpus, "--cache", tmp_path / "cache"]
    assert call(monkeypatch, path, *options) == 0
    record = read_card(tmp_path / "deploy" / "model.json").tensorrt
    assert record is not None and record.trials == 8
    assert record.largest_change is not None and record.largest_change < 0.1  # of sums around 5,000
