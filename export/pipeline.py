"""From options to the graph that ships; shared by python -m export.onnx and python -m export.trt.

path = export_onnx(source, "int8", "cpu", int8, gate)            # model.onnx and model.json
prepared = prepare(source, int8, gate, "int8", "uint8")          # the steps before the gate

checkpoint -> strip -> trace -> float graph -> calibrate -> quantise -> INT8 graph
                                     '--- verification trials ---'--> gate, card, files
"""

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from export.options import Batch, GateOptions, Int8Options, ModelOptions, Precision
from runtime.audio.score_times import STEP
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.int8.calibration import CalibrationWindows
    from export.int8.quantize import Kind
    from export.streaming_eval import Drift
    from export.streaming_graph import StepGraph
    from export.verify import Scores, Trials
    from runtime.audio.features import FrontEnd
    from runtime.card import model_card as card
    from train.checkpoint import Checkpoint
    from train.config import TrainConfig
    from train.data.corpus import Partition, Trial
    from train.data.corpus_index import CorpusIndex


@dataclass(frozen=True)
class Prepared:
    """A network's graphs, and the trials that judge whatever is built from them."""

    source: ModelOptions
    gate: GateOptions
    checkpoint: "Checkpoint"
    float_graph: "onnx.ModelProto"
    graph: "onnx.ModelProto"  # the graph that ships; the float graph for fp32
    precision: Precision
    trials: "Trials | None"  # None: no corpus was given
    float_scores: "Scores | None"  # of the float graph on those trials
    calibration: "card.Calibration | None" = None
    quantisation: "card.Quantisation | None" = None
    step: "StepGraph | None" = None  # of a streaming model: `graph` with its states
    drift: "Drift | None" = None  # of INT8 against float
    step_faults: tuple[str, ...] = ()  # differences of float steps from the whole network
    fused: "TrainConfig | None" = None  # settings of the second network

    def scores(self, title: str) -> "Scores | None":
        """Compute the scores of the graph that ships on the trials."""
        return None if self.trials is None else _scores(self.trials, self.graph, self.step, title)

    @property
    def batch(self) -> Batch:
        return self.source.batch or ("1" if self.step is None else "dynamic")


def export_onnx(
    source: ModelOptions,
    precision: Precision,
    target: Literal["cpu", "tensorrt"] = "cpu",
    int8: Int8Options = Int8Options(),  # noqa: B008 - frozen
    gate: GateOptions = GateOptions(),  # noqa: B008 - frozen
) -> Path:
    """Write model.onnx and model.json, both or neither; return the path of the first."""
    _check_corpora(int8, gate, precision)
    from export.card_writer import judge, write_model
    from runtime.card.model_card import Target

    prepared = prepare(source, int8, gate, precision, "uint8" if target == "cpu" else "int8")
    scores = prepared.float_scores if precision == "fp32" else prepared.scores("INT8")
    judgement = judge(prepared, scores, precision)
    runs_on: Target = "any" if precision == "fp32" else target
    return write_model(prepared, judgement, source.output_path(".onnx"), runs_on)


def prepare(source: ModelOptions, int8: Int8Options, gate: GateOptions, precision: Precision, kind: "Kind") -> Prepared:
    """Turn a checkpoint into the graph that ships and score the float graph on the verification trials."""
    _check_corpora(int8, gate, precision)
    from export.int8.calibration import check_disjoint
    from train.checkpoint import read_checkpoint
    from train.data.corpus_index import CorpusIndex
    from train.progress import say

    checkpoint = read_checkpoint(source.model)
    second = None if source.fuse is None else read_checkpoint(source.fuse)
    float_graph, step = _trace(source, checkpoint, kind, second)
    if int8.qat and step is not None:
        raise ShrikeError("--qat: only for windowed models; try --method percentile, or a higher --min-snr")
    if int8.keep_float:
        from export.int8.quantize import plan

        known = [layer.name for layer in plan(float_graph)]
        if unknown := sorted(set(int8.keep_float) - set(known)):
            raise ShrikeError(f"--keep-float {unknown[0]}: no such layer; expected some of {', '.join(known)}")
    # Each corpus is walked once: calibration and verification share the index.
    calibration = None if int8.calibration is None else CorpusIndex(int8.calibration)
    verification = calibration if gate.verification in (None, int8.calibration) else CorpusIndex(gate.verification)
    trials, float_scores = None, None
    faults: tuple[str, ...] = ()
    partition, chosen = _choose(checkpoint, int8, calibration) if precision == "int8" and calibration else (None, [])
    if verification is not None:
        frontend = checkpoint.settings.frontend
        trials = gate_trials(gate, frontend, verification, source.cache, source.frames if step else None)
        check_disjoint(chosen, trials.cache.trials)
        float_scores = _scores(trials, float_graph, step, "float")
        if step is not None and gate.drift_minutes:
            from export.streaming_eval import compare_with_whole

            faults = compare_with_whole(checkpoint, step, trials.cache, gate.drift_minutes)
    else:
        say("no --verification corpus: the EER is not measured, and scores stay raw")
    prepared = Prepared(
        source, gate, checkpoint, float_graph, float_graph, precision, trials, float_scores,
        step=step, step_faults=faults, fused=second.settings if second else None,
    )  # fmt: skip
    return prepared if partition is None else _quantised(prepared, int8, kind, partition, chosen)


def gate_trials(
    gate: GateOptions, frontend: "FrontEnd", corpus: "Path | CorpusIndex", folder: Path, step: int | None = None
) -> "Trials":
    """The gate's verification trials; `step`: frames of a streaming model, whose trials are streams."""
    from export.streaming_eval import StreamTrials
    from export.verify import read_trials

    protocol, count, windows = gate.verification_protocol, gate.verification_trials, gate.verification_windows
    trials = read_trials(frontend, corpus, folder, protocol, count, windows, gate.eer_rise)
    return trials if step is None else StreamTrials(trials.name, trials.cache, trials.windows, step)


def _check_corpora(int8: Int8Options, gate: GateOptions, precision: Precision) -> None:
    if precision == "int8" and int8.calibration is None:
        raise ShrikeError(
            "INT8 needs --calibration CORPUS: ranges come from real training trials; or export with --precision fp32"
        )
    for option, path in (("--calibration", int8.calibration), ("--verification", gate.verification)):
        if path is not None and not path.is_dir():
            raise ShrikeError(f"{option} {path}: expected the folder of a corpus, as for python -m train{nearby(path)}")


def _trace(
    source: ModelOptions, checkpoint: "Checkpoint", kind: "Kind", second: "Checkpoint | None"
) -> tuple["onnx.ModelProto", "StepGraph | None"]:
    from export import graph, streaming_graph
    from export.strip import DeployedStream, strip

    frontend, network = checkpoint.settings.frontend, strip(checkpoint, source.exit)
    if isinstance(network, DeployedStream):
        layout: streaming_graph.Layout = "channels last" if kind == "uint8" else "channels first"
        step = streaming_graph.trace(network, frontend, source.frames, source.batch != "1", layout)
        return step.graph, step
    if source.frames != STEP:
        raise ShrikeError(f"--frames {source.frames}: {source.model} is a windowed model; train one with --streaming")
    whole = network if second is None else _fused(source, network, frontend, second)
    return graph.trace(whole, frontend, source.batch == "dynamic"), None


def _fused(source: ModelOptions, network: "nn.Module", frontend: "FrontEnd", second: "Checkpoint") -> "nn.Module":
    from export.strip import DeployedStream, Fused, strip

    other = strip(second)
    if second.settings.frontend != frontend or isinstance(other, DeployedStream):
        raise ShrikeError(f"--fuse {source.fuse}: expected a windowed model with the front-end of {source.model}")
    return Fused([network, other])


def _scores(trials: "Trials", model: "onnx.ModelProto", step: "StepGraph | None", title: str) -> "Scores":
    from export import graph, streaming_graph

    return trials.scores(graph.as_engine(model) if step is None else streaming_graph.as_runner(step), title)


def _choose(checkpoint: "Checkpoint", int8: Int8Options, corpus: "CorpusIndex") -> "tuple[Partition, list[Trial]]":
    """The training partition, and those of its trials that calibrate."""
    from export.int8 import calibration
    from train.data.corpus import open_corpus, select

    only = checkpoint.settings.data.only if int8.only is None else int8.only
    partition = select(open_corpus(corpus, "train"), only)
    return partition, calibration.choose(partition, int8.calibration_trials, int8.seed)


def _quantised(
    prepared: Prepared, int8: Int8Options, kind: "Kind", partition: "Partition", chosen: "list[Trial]"
) -> Prepared:
    from export import streaming_eval, streaming_graph
    from export.int8 import calibration, quantize, sensitivity
    from runtime.card import model_card as card
    from train.data.cache import build_cache
    from train.progress import say

    source, checkpoint, step, trials = prepared.source, prepared.checkpoint, prepared.step, prepared.trials
    float_graph, frontend = prepared.float_graph, checkpoint.settings.frontend
    layers = quantize.plan(float_graph)
    say(f"calibration: {len(chosen):,} trials of {partition.describe()}")
    cache, names = build_cache(frontend, chosen, source.cache), quantize.tensors(layers)
    clips: CalibrationWindows
    if step is None:
        clips = calibration.CalibrationWindows(cache, int8.seed)
        ranges = calibration.find_ranges(float_graph, names, clips, int8.method, int8.percentile)
    else:
        clips = calibration.CalibrationClips(cache, int8.seed, source.frames)
        ranges = streaming_eval.find_ranges(step, names, clips, int8.method, int8.percentile)
    tuned = float_graph
    if int8.qat:
        from export.int8.qat import fine_tune

        tuned, ranges = fine_tune(float_graph, layers, ranges, checkpoint, partition, source.cache, int8)
    # Every n-th clip: the list is sorted by name, and names group by speaker and attack.
    every = max(1, len(clips) // sensitivity.WINDOWS)
    sample = list(itertools.islice(clips, 0, None, every))[: sensitivity.WINDOWS]
    run = None if step is None else partial(streaming_graph.last_logits, step)
    choice = sensitivity.choose_layers(tuned, layers, ranges, sample, int8.min_snr, int8.keep_float, int8.report, run)
    by_design = quantize.float_by_design(tuned, layers)
    if int8.report:
        sensitivity.show(choice, layers, by_design)
    say(
        f"INT8: {len(choice.layers)} of {len(layers)} layers, scores {choice.total:.1f} dB above its noise"
        + "".join(f"\n  {name} stays float: {why}" for name, why in choice.stays_float.items())
    )
    quantised = quantize.quantise(tuned, choice.layers, ranges, kind)
    drift = None
    after = None if step is None else step.with_graph(quantised)
    if step is not None and after is not None and trials is not None and prepared.gate.drift_minutes:
        drift = streaming_eval.measure_drift(step, after, trials.cache, prepared.gate.drift_minutes)
        say(f"drift: error {drift.first:.4f} in the first minute, {drift.sentence}")
    return replace(
        prepared,
        graph=quantised,
        calibration=calibration.describe(clips, partition, int8.method),
        quantisation=card.Quantisation("qat" if int8.qat else "ptq", kind, by_design | choice.stays_float),
        step=after,
        drift=drift,
    )
