"""Segments are the whole network's own parts: chained they give its scores to the last bit, and the command says so."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from export import calibration, cascade, graph, policy, quantize, segments, verify
from export import onnx as whole_export
from export.pipeline import Gate, Int8, Source
from export.strip import strip, strip_exits
from runtime.card import read_card
from runtime.engines.cascade import open_cascade
from runtime.engines.onnx import open_onnx
from runtime.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.export.small import windows
from train.checkpoint import write_checkpoint
from train.networks.senet import multiply_adds

NETWORKS = ["ecanet9", "senet9", "ecanet18", "mpif50", "ecamobile"]


@lru_cache
def graphs(name: str, floating: tuple[str, ...] = ()) -> tuple[onnx.ModelProto, onnx.ModelProto, onnx.ModelProto]:
    """In float with all exits; in U8 with all exits, some layers float; and as export.onnx makes it."""
    checkpoint = make_checkpoint(name, 0.125)
    frontend, made = checkpoint.settings.frontend, []
    every = graph.trace(strip_exits(checkpoint), frontend, shallow=3)
    for model in (every, graph.trace(strip(checkpoint), frontend)):
        layers = [layer for layer in quantize.plan(model) if layer.name not in floating]
        ranges = calibration.find_ranges(model, quantize.tensors(layers), list(windows(2)), "min-max")
        made.append(quantize.quantise(model, layers, ranges, "uint8"))
    return every, made[0], made[1]


def chained(parts: list[segments.Part], window: np.ndarray) -> list[np.ndarray]:
    """Logits of every segment."""
    values, said = window, []
    for part in parts:
        session = graph.open_session(part.graph)
        logits, *onward = session.run(None, {session.get_inputs()[0].name: values})
        said.append(logits)
        values = onward[0] if onward else values
    return said


EVERY = (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("name", "exits"), [*((name, EVERY) for name in NETWORKS), ("ecanet9", (3, 4)), ("ecamobile", (1, 4))]
)
def test_segments_give_the_whole_networks_logits_to_the_last_bit(name: str, exits: tuple[int, ...]) -> None:
    _, every, whole = graphs(name)
    parts = segments.split(every, exits)
    assert [part.exit for part in parts] == list(exits) and parts[-1].map is None
    assert all(segments.type_of(part.map) == "uint8" for part in parts if part.map is not None)
    session = graph.open_session(every)
    outputs = [graph.exit_output(exit) for exit in exits[:-1]] + [graph.OUTPUT]
    for window in windows(3, seed=9):
        said = chained(parts, window)
        np.testing.assert_array_equal(said[-1], graph.as_engine(whole)(window))
        for logits, expected in zip(said, session.run(outputs, {graph.INPUT: window}), strict=True):
            np.testing.assert_array_equal(logits, expected)


def test_a_float_layer_behind_the_cut_gets_its_float_map() -> None:
    _, every, whole = graphs("ecanet9", ("stages.2.0.body.0.Conv",))
    parts = segments.split(every, (1, 2, 4))
    assert [segments.type_of(part.map) for part in parts if part.map is not None] == ["uint8", "float32"]
    for window in windows(3, seed=9):
        np.testing.assert_array_equal(chained(parts, window)[-1], graph.as_engine(whole)(window))


@pytest.mark.parametrize("name", NETWORKS)
def test_without_its_shallow_exits_it_is_the_file_that_export_onnx_writes(name: str) -> None:
    _, every, whole = graphs(name)
    kept = segments.keep(every, [graph.OUTPUT])
    assert kept.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_that_torch_counts(name: str) -> None:
    model, every, _ = graphs(name)
    costs = segments.multiply_adds(model)
    network = make_checkpoint(name, 0.125).network()
    whole = segments.keep(model, [graph.OUTPUT])
    assert sum(segments.multiply_adds(whole).values()) == multiply_adds(network, 45, 600)
    parts = segments.split(every, (1, 2, 3, 4))
    assert sum(segments.spent(costs, part) for part in parts) == sum(costs.values())
    first = strip(make_checkpoint(name, 0.125), 1)
    assert segments.spent(costs, parts[0]) == multiply_adds(first, 45, 600)  # type: ignore[arg-type]


def test_a_plain_network_cannot_be_a_cascade() -> None:
    with pytest.raises(ShrikeError, match="train with --distill on"):
        strip_exits(make_checkpoint(distill="off"))


# ---- the command -----------------------------------------------------------------------------------------------------


def options(model: Path, corpus: Path, out: Path, cache: Path, max_loss: float) -> cascade.Options:
    int8 = Int8(corpus, calibration_trials=16, min_snr=0.0)
    gate = Gate(verification_windows=3, bootstrap=20, max_eer_rise=100.0)
    return cascade.Options(Source(model, out=str(out), cache=cache), max_loss, int8, gate)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights by chance: what is tested is the files."""
    path = tmp_path_factory.mktemp("run") / "model.pt"
    write_checkpoint(path, make_checkpoint())
    return path


def by_quantiles(trials: policy.Scored, losses: list[float], seed: int) -> list[policy.Choice | None]:
    """A choice where there is nothing to choose: a third of the windows stop at exit 2, by their LLRs."""
    maps = policy.fit(trials, 0.0).maps
    cut = np.quantile(trials.llrs(maps)[:, 1], [0.2, 0.85])
    found = policy.Policy(maps, (policy.NEVER, (float(cut[0]), float(cut[1])), policy.NEVER))
    judged = policy.judge(trials, found)
    return [policy.Choice(loss, found, judged, judged) for loss in losses]


def test_it_writes_whole_and_segments_with_one_card(
    trained: Path,
    made_corpus: Path,
    tmp_path: Path,
    made_cache: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "curve", by_quantiles)
    path = cascade.write(options(trained, made_corpus, tmp_path / "door.onnx", made_cache, max_loss=9.0))
    card = read_card(path.with_suffix(".json"))  # every hash
    assert card.cascade is not None and card.network.exit == 4 and card.precision == "int8"
    names = {part.file for part in card.cascade.segments}
    assert names == {"door-2.onnx", "door-4.onnx"}
    assert set(card.files) == names | {"door.onnx"} == {file.name for file in tmp_path.glob("*.onnx")}
    assert "multiply-adds" in capfd.readouterr().err
    plain = whole_export.write(
        whole_export.Options(
            Source(trained, out=str(tmp_path / "plain.onnx"), cache=made_cache),
            "int8",
            "cpu",
            Int8(made_corpus, calibration_trials=16, min_snr=0.0),
            Gate(verification_windows=3, bootstrap=20, max_eer_rise=100.0),
        )
    )
    assert plain.read_bytes() == path.read_bytes()
    # The files decide as the choice foresaw, and what they do not decide early is the whole network's.
    engine, whole, dev = open_cascade(path), open_onnx(path), card.cascade.dev
    trials = Gate(verification_windows=3).read_trials(card.frontend, made_corpus, made_cache)
    early = 0
    for window in trials:
        engine.decided.clear()
        logits = engine(window)
        if engine.decided == {4: 1}:
            np.testing.assert_array_equal(logits, whole(window))
        else:
            early += 1
    assert early / len(trials) == pytest.approx(dev.decided[0]) and 0.2 < dev.decided[0] < 0.5
    assert dev.multiply_adds < card.cascade.segments[-1].multiply_adds


def test_where_nothing_is_saved_nothing_is_written(
    trained: Path, made_corpus: Path, tmp_path: Path, made_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "LEAST_SAVING", 0.99)
    with pytest.raises(verify.Rejected, match=r"--max-loss 0\.01\. Nothing was written"):
        cascade.write(options(trained, made_corpus, tmp_path / "door.onnx", made_cache, max_loss=0.01))
    assert not list(tmp_path.iterdir())


def test_segments_that_compute_otherwise_than_the_whole_are_not_written(
    trained: Path, made_corpus: Path, tmp_path: Path, made_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "curve", by_quantiles)

    def bent(model: onnx.ModelProto, exits: list[int]) -> list[segments.Part]:
        *parts, last = original(model, exits)
        for item in last.graph.graph.initializer:
            if item.name == "head.weight":
                weight = onnx.numpy_helper.to_array(item) * np.float32(1.0001)
                item.CopyFrom(onnx.numpy_helper.from_array(weight, item.name))
        return [*parts, last]

    original = segments.split
    monkeypatch.setattr(segments, "split", bent)
    with pytest.raises(ShrikeError, match="change a score by"):
        cascade.write(options(trained, made_corpus, tmp_path / "door.onnx", made_cache, max_loss=9.0))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("source", "sentence"), [({"exit": 2}, "--exit"), ({"batch": "dynamic"}, "--batch dynamic")])
def test_what_a_cascade_cannot_have_is_said_at_once(source: dict[str, object], sentence: str) -> None:
    with pytest.raises(ShrikeError, match=sentence):
        cascade.Options(replace(Source(Path("model.pt")), **source))  # type: ignore[arg-type]
    with pytest.raises(ShrikeError, match="--max-loss"):
        cascade.Options(Source(Path("model.pt")), max_loss=0.0)
    with pytest.raises(ShrikeError, match="--qat"):
        cascade.Options(Source(Path("model.pt")), int8=Int8(qat=1))
