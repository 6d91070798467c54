"""From options to the graph that ships; shared by python -m export.onnx and python -m export.trt.

path = export_onnx(source, "int8", "cpu", int8, gate)            # model.onnx and model.json
prepared = prepare(source, int8, gate, "int8", "uint8")          # the steps before the gate

checkpoint -> strip -> trace -> float graph -> calibrate -> quantise -> INT8 graph
                                     '--- verification trials ---'--> gate, card, files
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from export import model_graph, streaming_eval
from export.card_writer import Prepared, judge, write_model
from export.int8 import calibration, quantize, sensitivity
from export.model_graph import ModelGraph
from export.options import GateOptions, Int8Options, ModelOptions, Precision
from export.strip import DeployedStream, Fused, strip
from export.verify import read_trials
from runtime.audio.score_times import STEP
from runtime.card import model_card as card
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.checkpoint import Checkpoint, read_checkpoint
from train.data.cache import build_cache
from train.data.corpus import Partition, Trial, open_corpus, select
from train.data.corpus_index import CorpusIndex
from train.progress import say


def export_onnx(
    source: ModelOptions,
    precision: Precision,
    target: Literal["cpu", "tensorrt"] = "cpu",
    int8: Int8Options = Int8Options(),  # noqa: B008 - frozen
    gate: GateOptions = GateOptions(),  # noqa: B008 - frozen
) -> Path:
    """Write model.onnx and model.json, both or neither; return the path of the first."""
    prepared = prepare(source, int8, gate, precision, "uint8" if target == "cpu" else "int8")
    runs_on: card.Target = "any" if precision == "fp32" else target
    return write_model(judge(prepared), source.output_path(".onnx"), runs_on)


def prepare(
    source: ModelOptions, int8: Int8Options, gate: GateOptions, precision: Precision, kind: quantize.Kind
) -> Prepared:
    """Turn a checkpoint into the graph that ships and score the float graph on the verification trials."""
    if precision == "int8" and int8.calibration is None:
        raise ShrikeError(
            "INT8 needs --calibration CORPUS: ranges come from real training trials; or export with --precision fp32"
        )
    for option, path in (("--calibration", int8.calibration), ("--verification", gate.verification)):
        if path is not None and not path.is_dir():
            raise ShrikeError(f"{option} {path}: expected the folder of a corpus, as for python -m train{nearby(path)}")
    checkpoint = read_checkpoint(source.model)
    second = None if source.fuse is None else read_checkpoint(source.fuse)
    float_graph = _trace(source, checkpoint, kind, second)
    if int8.qat and float_graph.state:
        raise ShrikeError("--qat: only for windowed models; try --method percentile, or a higher --min-snr")
    known = [layer.name for layer in quantize.plan(float_graph.graph)]
    if unknown := sorted(set(int8.keep_float) - set(known)):
        raise ShrikeError(f"--keep-float {unknown[0]}: no such layer; expected some of {', '.join(known)}")
    # Each corpus is walked once: calibration and verification share the index.
    corpus = None if int8.calibration is None else CorpusIndex(int8.calibration)
    verification = corpus if gate.verification in (None, int8.calibration) else CorpusIndex(gate.verification)
    partition, chosen = None, list[Trial]()
    if precision == "int8" and corpus is not None:
        only = checkpoint.settings.data.only if int8.only is None else int8.only
        partition = select(open_corpus(corpus, "train"), only)
        chosen = calibration.choose(partition, int8.calibration_trials, int8.seed)
    prepared = Prepared(
        source, gate, checkpoint, float_graph, float_graph, precision, fused=second.settings if second else None
    )
    if verification is None:
        say("no --verification corpus: the EER is not measured, and scores stay raw")
    else:
        step = float_graph.frames if float_graph.state else None
        trials = read_trials(gate, checkpoint.settings.frontend, verification, source.cache, step)
        calibration.check_disjoint(chosen, trials.cache.trials)
        prepared = replace(prepared, trials=trials)
        faults: tuple[str, ...] = ()
        if step and gate.drift_minutes:
            faults = streaming_eval.compare_with_whole(checkpoint, float_graph, trials.cache, gate.drift_minutes)
        prepared = replace(prepared, float_scores=prepared.scores("float"), step_faults=faults)
    return prepared if partition is None else _quantised(prepared, int8, kind, partition, chosen)


def _trace(source: ModelOptions, checkpoint: Checkpoint, kind: quantize.Kind, second: Checkpoint | None) -> ModelGraph:
    frontend, network = checkpoint.settings.frontend, strip(checkpoint, source.exit)
    streaming = isinstance(network, DeployedStream)
    if not streaming and source.frames != STEP:
        raise ShrikeError(f"--frames {source.frames}: {source.model} is a windowed model; train one with --streaming")
    whole: nn.Module = network
    if second is not None:
        other = strip(second)
        if second.settings.frontend != frontend or streaming or isinstance(other, DeployedStream):
            raise ShrikeError(f"--fuse {source.fuse}: expected a windowed model with the front-end of {source.model}")
        whole = Fused([network, other])
    layout: model_graph.Layout = "channels last" if kind == "uint8" else "channels first"
    dynamic = None if source.batch is None else source.batch == "dynamic"
    return model_graph.trace(whole, frontend, dynamic, source.frames, layout)


def _quantised(
    prepared: Prepared, int8: Int8Options, kind: quantize.Kind, partition: Partition, chosen: list[Trial]
) -> Prepared:
    """Calibrate, tune if asked to, choose the layers and quantise them; measure a stream's drift."""
    source, checkpoint, before = prepared.source, prepared.checkpoint, prepared.float_graph
    layers = quantize.plan(before.graph)
    say(f"calibration: {len(chosen):,} trials of {partition.describe()}")
    cache = build_cache(checkpoint.settings.frontend, chosen, source.cache)
    clips = calibration.CalibrationClips(cache, int8.seed, before.frames if before.state else None)
    ranges = calibration.find_ranges(before, quantize.tensors(layers), clips, int8.method, int8.percentile)
    tuned = before
    if int8.qat:
        from export.int8.qat import fine_tune

        graph, ranges = fine_tune(before.graph, layers, ranges, checkpoint, partition, source.cache, int8)
        tuned = before.with_graph(graph)
    # Every n-th clip: the list is sorted by name, and names group by speaker and attack.
    every = max(1, len(clips) // sensitivity.WINDOWS)
    sample = list(itertools.islice(clips, 0, None, every))[: sensitivity.WINDOWS]
    choice = sensitivity.choose_layers(tuned, layers, ranges, sample, int8.min_snr, int8.keep_float, int8.report)
    by_design = quantize.float_by_design(tuned.graph, layers)
    if int8.report:
        sensitivity.show(choice, layers, by_design)
    say(
        f"INT8: {len(choice.layers)} of {len(layers)} layers, scores {choice.total:.1f} dB above its noise"
        + "".join(f"\n  {name} stays float: {why}" for name, why in choice.stays_float.items())
    )
    after, drift = tuned.with_graph(quantize.quantise(tuned.graph, choice.layers, ranges, kind)), None
    if before.state and prepared.trials is not None and prepared.gate.drift_minutes:
        drift = streaming_eval.measure_drift(before, after, prepared.trials.cache, prepared.gate.drift_minutes)
        say(f"drift: error {drift.first:.4f} in the first minute, {drift.sentence}")
    return replace(
        prepared,
        graph=after,
        calibration=calibration.describe(clips, partition, int8.method),
        quantisation=card.Quantisation("qat" if int8.qat else "ptq", kind, by_design | choice.stays_float),
        drift=drift,
    )
