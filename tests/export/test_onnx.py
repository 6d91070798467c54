"""The graph that is written, and the command that writes it: both files or neither."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import graph, verify
from export import streaming_eval as streams
from export.card_writer import advice
from export.int8 import calibration
from export.model_graph import as_runner, trace
from export.onnx import Options
from export.options import GateOptions, Int8Options, ModelOptions
from export.pipeline import Prepared, export_onnx
from export.strip import strip
from runtime.card.model_card import read_card
from runtime.engines import open_engine
from runtime.support.errors import ShrikeError
from tests.export.conftest import Window, make_checkpoint
from tests.export.small import logits_of, windowed
from train.checkpoint import Checkpoint, write_checkpoint
from train.data.corpus_index import CorpusIndex

ROOT = Path(__file__).resolve().parent.parent.parent
OPERATIONS = {"Conv", "Relu", "Add", "Mul", "GlobalAveragePool", "Sigmoid", "Flatten", "Gemm"}
FEW = 16  # trials: enough to see everything happen


MORE = {
    "res2net50": {"Concat", "AveragePool"},
    "mpif50": {"Concat", "AveragePool", "ReduceMean"},
    "ocsoftmax": {"MatMul", "Constant", "Sqrt", "Div"},  # divides by the embedding's length
}


@pytest.mark.parametrize("name", ["ecanet9", "senet9", "senet18", "ecanet50", "res2net50", "mpif50", "ecamobile"])
@pytest.mark.parametrize("loss", ["asoftmax", "ocsoftmax"])
def test_the_graph_holds_what_every_tensorrt_reads(name: str, loss: str) -> None:
    checkpoint = make_checkpoint(name, 0.125, level="window-mean", loss=loss)
    model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
    onnx.checker.check_model(model, full_check=True)
    more = {"Transpose", "Sub"} | MORE.get(name, set()) | MORE.get(loss, set())
    assert {node.op_type for node in model.graph.node} - OPERATIONS <= more
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)] and model.ir_version == 8
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) and not any("/" in name for name in names)
    (features,), (logits,) = model.graph.input, model.graph.output
    assert [d.dim_value for d in features.type.tensor_type.shape.dim] == [1, 1, 45, 600] and features.name == "features"
    assert [d.dim_value for d in logits.type.tensor_type.shape.dim] == [1, 2] and logits.name == "logits"


def test_the_same_network_is_the_same_bytes(checkpoint: Checkpoint) -> None:
    twice = [trace(strip(checkpoint), checkpoint.settings.frontend).graph.SerializeToString() for _ in range(2)]
    assert twice[0] == twice[1]


@pytest.mark.parametrize(
    "name, kind, loss",
    [("senet9", "none", "asoftmax"), ("senet9", "window-mean", "asoftmax"), ("mpif50", "none", "amsoftmax")],
)
def test_any_batch_gives_what_single_windows_give(name: str, kind: str, loss: str, speech: list[Window]) -> None:
    checkpoint = make_checkpoint(name, level=kind, loss=loss)
    single, dynamic = (trace(strip(checkpoint), checkpoint.settings.frontend, batch).graph for batch in (False, True))
    together = as_runner(windowed(dynamic))(np.concatenate(speech[:5]))
    assert np.allclose(together, logits_of(single, speech[:5]), atol=1e-5)


def test_shared_biases_become_each_layers_own() -> None:
    """Fresh batch norms fold to equal biases, which the tracer stores once."""
    checkpoint = make_checkpoint()
    weights = {n: np.zeros_like(v) if n.endswith("bias") else v for n, v in checkpoint.weights.items()}
    import torch

    same = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in weights.items()}
    same = {n: torch.zeros_like(v) if n.endswith("running_mean") else v for n, v in same.items()}
    model = trace(strip(replace(checkpoint, weights=same)), checkpoint.settings.frontend).graph
    used = [name for node in model.graph.node for name in node.input if name in graph.weights_of(model)]
    assert len(used) == len(set(used)) == len(model.graph.initializer)
    assert "Identity" not in {node.op_type for node in model.graph.node}


# ---- the command -----------------------------------------------------------------------------------------------------


def write(options: Options) -> Path:
    """Export as the command does."""
    return export_onnx(options.source, options.precision, options.target, options.int8, options.gate)


def options(model: Path, corpus: Path | None, out: Path, cache: Path, **gate: object) -> Options:
    int8 = Int8Options(corpus, only="open=1", calibration_trials=FEW, min_snr=0.0)
    limits = GateOptions(verification_trials=24, bootstrap=20, **gate)  # type: ignore[arg-type]
    return Options(
        ModelOptions(model, out=out and str(out), cache=cache), "int8" if corpus else "fp32", "cpu", int8, limits
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_float_without_a_corpus_says_what_was_not_measured(model_pt: Path, tmp_path: Path) -> None:
    path = write(options(model_pt, None, tmp_path, tmp_path))
    assert path == tmp_path / "model.onnx"
    card = read_card(path)
    assert (card.precision, card.target, card.quantisation, card.calibration) == ("fp32", "any", None, None)
    assert not card.accuracy.measured and card.accuracy.reason and card.score.fitted_on is None
    assert card.training is not None and card.training.distill and card.network.exit == 4
    assert not list(tmp_path.glob(".*"))


def test_int8_end_to_end(
    model_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    walk = CorpusIndex.__init__
    monkeypatch.setattr(CorpusIndex, "__init__", lambda self, root: (opened.append(str(root)), walk(self, root))[1])
    # Random weights have no EER that could rise; the models agree.
    wanted = options(model_pt, corpus_root, tmp_path / "deploy" / "cpu", cache, max_eer_rise=100.0)
    path = write(wanted)
    assert path == tmp_path / "deploy" / "cpu.onnx" and sorted(p.name for p in path.parent.iterdir()) == [
        "cpu.json",
        "cpu.onnx",
    ]
    card = read_card(path.with_suffix(".json"))
    assert opened == [str(corpus_root)]  # calibration and verification share one walk through the corpus
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert properties["shrike.name"] == card.name and properties["shrike.card"] == "cpu.json"
    assert json.loads(properties["shrike.frontend"]) == asdict(card.frontend)
    assert card.precision == "int8" and card.target == "cpu"
    assert card.quantisation is not None and card.quantisation.activations == "uint8"
    assert "head.Gemm" in card.quantisation.float_layers
    assert card.calibration is not None and card.calibration.trials == FEW
    assert card.calibration.classes == {"bonafide": FEW // 2, "spoof": FEW // 2}
    assert card.accuracy.measured and card.accuracy.trials == 24
    assert any("calibrated on 16 trials" in note for note in card.notes)
    with open_engine(path) as engine:  # type: ignore[attr-defined]
        assert engine.precision == "int8"
        window = np.full((1, 1, 45, 600), -8.0, np.float32)
        assert np.array_equal(engine(window), as_runner(windowed(onnx.load(path)))(window))
    twin = write(replace(wanted, target="tensorrt", source=replace(wanted.source, out=str(tmp_path / "s8.onnx"))))
    assert twin == tmp_path / "s8.onnx" and read_card(twin).target == "tensorrt"
    assert {node.op_type for node in onnx.load(twin).graph.node} - OPERATIONS - {"Transpose"} == {
        "QuantizeLinear",
        "DequantizeLinear",
    }


def test_without_labels_agreement_alone_is_measured_as_the_card_states(
    model_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path
) -> None:
    names = [line.split()[1] for line in (corpus_root / "protocols" / "dev.txt").read_text().splitlines()[:24]]
    unlabelled = tmp_path / "names.txt"  # one column, as ASVspoof 2021 gives its evaluation trials
    unlabelled.write_text("\n".join(names) + "\n")
    wanted = options(model_pt, corpus_root, tmp_path / "deploy" / "cpu", cache, verification_protocol=unlabelled)
    try:
        card = read_card(write(wanted))
    except verify.Rejected as error:  # random weights may agree too little
        assert error.comparison is not None and (error.comparison.accuracy.correlation or 0) < verify.LEAST_CORRELATION
        return
    assert not card.accuracy.measured and "EER was not measured" in card.accuracy.reason
    assert card.accuracy.eer is None and (card.accuracy.correlation or 0) > verify.LEAST_CORRELATION
    assert card.score.fitted_on is None and any("no labels" in note for note in card.notes)


def test_trials_that_calibrate_cannot_verify(model_pt: Path, made_corpus: Path, tmp_path: Path, cache: Path) -> None:
    lines = (made_corpus / "protocols" / "train.txt").read_text().splitlines()
    protocols = tmp_path / "corpus" / "protocols"
    protocols.mkdir(parents=True)
    for name in ("train", "dev"):
        (protocols / f"{name}.txt").write_text("\n".join(lines[:8] + lines[-8:]) + "\n")
    (tmp_path / "corpus" / "flac").symlink_to(made_corpus / "flac")
    wanted = options(model_pt, tmp_path / "corpus", tmp_path / "out", cache)
    with pytest.raises(ShrikeError):
        write(replace(wanted, int8=replace(wanted.int8, only="")))
    assert not (tmp_path / "out").exists()


def test_too_much_lost_leaves_no_file_and_exits_3(
    model_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An EER cannot fall by 100 %, so this gate lets nothing through.
    arguments = ["--calibration", corpus_root, "--only", "open=1", "--calibration-trials", FEW, "--cache", cache]
    arguments += ["--min-snr", "0"]
    arguments += [
        "--verification-trials",
        24,
        "--bootstrap",
        20,
        "--max-eer-rise",
        -100,
        "--verification-windows",
        1,
        "--out",
        tmp_path / "deploy",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "export.onnx", str(model_pt), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == verify.REJECTED == 3, done.stderr
    assert done.stdout == "" and "failed" in done.stderr and "--max-eer-rise" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_card_that_cannot_be_written_takes_the_model_with_it(
    model_pt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"the old one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.card.model_card.write_card", full)
    with pytest.raises(ShrikeError):
        write(options(model_pt, None, tmp_path, tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"the old one"


def test_mistakes_are_one_line(model_pt: Path, tmp_path: Path) -> None:
    def refusal(source: ModelOptions, int8: Int8Options = Int8Options(), precision: str = "fp32") -> str:  # noqa: B008 - frozen
        with pytest.raises(ShrikeError) as error:
            write(Options(source, precision, "cpu", int8))  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "does not exist" in refusal(ModelOptions(tmp_path / "no.pt"))
    (tmp_path / "odd.pt").write_bytes(b"PK\x03\x04 and nothing")
    assert "odd.pt" in refusal(ModelOptions(tmp_path / "odd.pt"))
    assert "--exit 5" in refusal(ModelOptions(model_pt, exit=5))
    with pytest.raises(ShrikeError, match="--exit 0"):
        ModelOptions(model_pt, exit=0)
    assert "needs --calibration" in refusal(ModelOptions(model_pt), precision="int8")
    for wrong in ({"percentile": 0.0}, {"qat": -1}, {"qat_lr": 0.0}, {"seed": -1}, {"calibration_trials": 0}):
        with pytest.raises(ShrikeError, match="--"):
            Int8Options(**wrong)  # type: ignore[arg-type]


def test_the_card_is_json_a_person_can_read(model_pt: Path, tmp_path: Path) -> None:
    path = write(options(model_pt, None, tmp_path, tmp_path))
    values = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert list(values)[:3] == ["version", "name", "created"] and values["name"] == "ecanet9-x0.25"


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        (None, "runs/a/model.onnx"),
        ("deploy/", "deploy/model.onnx"),
        ("deploy/shrike", "deploy/shrike.onnx"),
        ("deploy/v1.2", "deploy/v1.2.onnx"),
        ("deploy/shrike.engine", "deploy/shrike.onnx"),
        ("there", "there/model.onnx"),
    ],
)
def test_where_the_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert ModelOptions(Path("runs/a/model.pt"), out=out).output_path(".onnx") == Path(expected)


# ---- streaming models


@pytest.fixture(scope="module")
def streaming_pt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streaming") / "model.pt"
    write_checkpoint(path, make_checkpoint(level="running-mean", streaming=True))
    return path


def test_a_step_end_to_end(
    streaming_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The gate allows trained networks 2 %; with random weights rounding alone moves the error by up to 4 %.
    monkeypatch.setattr(streams, "NO_WORSE", 1.2)
    wanted = options(streaming_pt, corpus_root, tmp_path / "cpu", cache, max_eer_rise=100.0, drift_minutes=3)
    card = read_card(write(wanted))
    assert card.name == "ecanet9-streaming-x0.25" and card.input.shape == (-1, 1, 45, 16) and card.state is not None
    assert {tensor.type for tensor in card.state.tensors} == {"uint8", "float32"}
    assert any(note.startswith("error of INT8 in a minute of a stream: ") for note in card.notes)
    assert card.accuracy.measured and card.accuracy.trials == 24
    source = replace(wanted.source, out=str(tmp_path / "s8"), frames=32, batch="1")
    card = read_card(write(replace(wanted, target="tensorrt", source=source)))
    assert card.input.shape == (1, 1, 45, 32) and card.state is not None
    assert {tensor.type for tensor in card.state.tensors} == {"float32"}


def test_a_spoiled_step_and_one_that_drifts_are_rejected(
    streaming_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, and the advice is none that a step cannot follow."""
    names = [line.split()[1] for line in (corpus_root / "protocols" / "dev.txt").read_text().splitlines()[:24]]
    unlabelled = tmp_path / "names.txt"
    unlabelled.write_text("\n".join(names) + "\n")
    wanted = options(streaming_pt, corpus_root, tmp_path / "out", cache, verification_protocol=unlabelled)
    with monkeypatch.context() as patch:
        found = calibration.find_ranges
        patch.setattr(calibration, "find_ranges", lambda *given: {k: v / 50 for k, v in found(*given).items()})
        with pytest.raises(verify.Rejected) as spoiled:
            write(replace(wanted, gate=replace(wanted.gate, drift_minutes=0)))
    assert str(spoiled.value).endswith("a higher --min-snr, another --method or to allow more with --max-eer-rise")
    with monkeypatch.context() as patch:
        patch.setattr(streams, "measure_drift", lambda *given: streams.Drift(3, 0.01, 0.05))
        with pytest.raises(verify.Rejected) as drifting:
            write(replace(wanted, gate=replace(wanted.gate, max_eer_rise=100.0, drift_minutes=3)))
    assert str(drifting.value).endswith("Try a higher --min-snr or another --method")
    assert not (tmp_path / "out.onnx").exists() and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("streaming", [False, True])
def test_fine_tuning_is_advised_where_it_can_be_done(streaming: bool) -> None:
    checkpoint = make_checkpoint(streaming=streaming)
    frontend = checkpoint.settings.frontend
    network = strip(checkpoint)
    model = trace(network, frontend)
    prepared = Prepared(ModelOptions(Path("model.pt")), GateOptions(), checkpoint, model, model, "int8")
    assert ("--qat" in advice(prepared, lost=True)) == (not streaming)


def test_what_steps_cannot_do_is_one_sentence(
    streaming_pt: Path, model_pt: Path, corpus_root: Path, tmp_path: Path, cache: Path
) -> None:
    wanted = options(streaming_pt, corpus_root, tmp_path / "out", cache)
    with pytest.raises(ShrikeError, match="--frames 12"):
        write(replace(wanted, source=replace(wanted.source, frames=12)))
    with pytest.raises(ShrikeError, match="--qat"):
        write(replace(wanted, int8=replace(wanted.int8, qat=1)))
    with pytest.raises(ShrikeError, match="--frames 32"):
        write(replace(wanted, source=replace(wanted.source, model=model_pt, frames=32)))
