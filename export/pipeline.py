"""From options to the graph that ships: what `python -m export.onnx` and `python -m export.trt` share.

    prepared = prepare(source, int8, gate, "int8", "uint8")      # strip, trace, calibrate, quantise
    judged = judge(prepared, scores)                             # export.card_writer: Rejected, or what the card says
    path = place(source, ".onnx")

Options are groups of fields that each command puts together into its own; heavy imports wait until they are parsed.
"""

import itertools
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.audio.score_times import STEP
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from export.int8.quantize import Kind
    from export.streaming_eval import Drift
    from export.streaming_graph import Step
    from export.verify import Limits, Trials
    from runtime.audio.features import FrontEnd
    from runtime.card import model_card as card
    from train.checkpoint import Checkpoint


@dataclass(frozen=True)
class Source:
    """What is exported."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    exit: int = 4
    """4: the whole network. 1 to 3: a shallow one that self-distillation taught, with its own classifier."""
    batch: Literal["1", "dynamic"] | None = None
    """Windows at once: 1, or dynamic, any number; by default 1, and dynamic for streams of a network that remembers."""
    frames: int = STEP
    """New frames in a step of a network that remembers: 16 are 130 ms; a multiple of its stride, 8 or 16."""
    out: str | None = None
    """Folder (that is there, or ends in /), or path of the new files without ending; by default beside the model."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""


@dataclass(frozen=True)
class Int8:
    """How INT8 comes about."""

    calibration: Path | None = None
    """Folder of the corpus whose training trials set the INT8 ranges; INT8 needs it."""
    only: str | None = None
    """Only trials whose row in the corpus's metadata.csv says so calibrate; by default the choice of the training."""
    calibration_trials: int = 500
    """How many trials calibrate, half of each class, spread over the attacks."""
    method: Literal["min-max", "entropy", "percentile"] = "min-max"
    """min-max clips nothing that calibration saw; entropy and percentile clip rare peaks for finer steps."""
    percentile: float = 99.999
    """Share of values in percent that --method percentile keeps unclipped."""
    min_snr: float = 30.0
    """dB that scores shall keep above INT8's noise; the noisiest layers stay float until they do."""
    keep_float: tuple[str, ...] = ()
    """Layers that stay float in any case, by the names that --report shows."""
    report: bool = False
    """Measure every layer alone and show which stay float and why."""
    qat: int = 0
    """Epochs of fine-tuning with fake quantisation on the training trials, for a model that INT8 hurts."""
    qat_lr: float = 1e-4
    """Learning rate of that fine-tuning; it falls to zero as a cosine."""
    seed: int = 0
    """Everything random follows from it: which trials and crops calibrate, the order of fine-tuning."""

    def __post_init__(self) -> None:
        demands = [
            (0 < self.percentile <= 100, f"--percentile {self.percentile}: above 0 and at most 100 was expected"),
            (self.qat >= 0, f"--qat {self.qat}: a number of epochs, 0 or more, was expected"),
            (self.qat_lr > 0, f"--qat-lr {self.qat_lr}: a number above 0 was expected"),
            (self.seed >= 0, f"--seed {self.seed}: 0 or more was expected"),
        ]
        for holds, sentence in demands:
            if not holds:
                raise ShrikeError(sentence)


@dataclass(frozen=True)
class Gate:
    """Which trials decide, and what may be lost."""

    verification: Path | None = None
    """Folder of the corpus whose development trials go through both models; by default the one that calibrates."""
    verification_protocol: Path | None = None
    """A protocol file instead of the corpus's own for these trials; without labels only agreement is measured."""
    verification_trials: int = 0
    """How many trials decide, drawn by chance; 0 takes all."""
    verification_windows: int = 0
    """Windows of each such trial; 0: as many as make the EER step a quarter of --max-eer-rise, 1 on a long list."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF."""
    max_eer_rise: float = 0.2
    """Percent (absolute) by which the EER may rise; beyond it nothing is written and the exit code is 3."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval."""
    drift_minutes: int = 60
    """How long an INT8 network that remembers runs without a reset, to see whether its error grows; 0: not at all."""

    def __post_init__(self) -> None:
        if self.asv is not None and not self.asv.is_file():  # it is read when all trials went through both models
            raise ShrikeError(f"--asv {self.asv}: the organisers' file of scores was expected{nearby(self.asv)}")

    @property
    def limits(self) -> "Limits":
        from export.verify import Limits

        return Limits(eer_rise=self.max_eer_rise / 100, bootstrap=self.bootstrap)

    def read_trials(self, frontend: "FrontEnd", corpus: Path, folder: Path, step: int | None = None) -> "Trials":
        """`step`: frames of a network that remembers; its trials are streams."""
        from export.streaming_eval import StreamTrials
        from export.verify import read_trials

        trials = read_trials(
            frontend,
            corpus,
            folder,
            self.verification_protocol,
            self.verification_trials,
            self.verification_windows,
            self.limits.eer_rise,
        )
        return trials if step is None else StreamTrials(trials.name, trials.cache, trials.windows, step)


@dataclass(frozen=True)
class Prepared:
    """A network on its way to the device: graphs, and the trials that judge whatever is built from them."""

    source: Source
    gate: Gate
    checkpoint: "Checkpoint"
    float_graph: "onnx.ModelProto"
    graph: "onnx.ModelProto"  # what ships, or what an engine is built from; the float graph for fp32
    precision: Literal["fp32", "int8"]
    trials: "Trials | None"  # None: no corpus was given
    float_scores: "NDArray[np.float64] | None"  # of the float graph on those trials
    calibration: "card.Calibration | None" = None
    quantisation: "card.Quantisation | None" = None
    step: "Step | None" = None  # of a network that remembers: `graph` with its states
    drift: "Drift | None" = None

    def scores(self, title: str) -> "NDArray[np.float64] | None":
        """Of what ships, on the trials."""
        return None if self.trials is None else _scores(self.trials, self.graph, self.step, title)

    @property
    def batch(self) -> Literal["1", "dynamic"]:
        return self.source.batch or ("1" if self.step is None else "dynamic")


def _scores(trials: "Trials", model: "onnx.ModelProto", step: "Step | None", title: str) -> "NDArray[np.float64]":
    from export import graph
    from export import streaming_graph as steps

    return trials.scores(graph.as_engine(model) if step is None else steps.as_runner(step), title)


def place(source: Source, ending: str) -> Path:
    """Where a file of this export goes: beside the model, into --out if it is a folder, or under --out's own name."""
    if source.out is None:
        return source.model.with_suffix(ending)
    out = Path(source.out)
    if out.is_dir() or source.out.endswith("/"):  # a Path would not keep the slash
        return out / f"{source.model.stem}{ending}"
    return out.with_suffix(ending) if out.suffix in (".onnx", ".engine", ".json") else Path(f"{out}{ending}")


def prepare(
    source: Source,
    int8: Int8,
    gate: Gate,
    precision: Literal["fp32", "int8"],
    kind: "Kind",
) -> Prepared:
    """Checkpoint -> graph; everything up to the files."""
    if precision == "int8" and int8.calibration is None:
        raise ShrikeError(
            "INT8 needs --calibration CORPUS: ranges come from real training trials; or export with --precision fp32"
        )
    if int8.calibration is not None and not int8.calibration.is_dir():
        raise ShrikeError(
            f"--calibration {int8.calibration} is no corpus: the folder of an ASVspoof copy was expected, as for "
            "python -m train; ranges come from its training trials, never from random data or single files"
            + nearby(int8.calibration)
        )
    from export import graph
    from export import streaming_graph as steps
    from export.strip import DeployedStream, strip
    from train.checkpoint import read_checkpoint
    from train.progress import say

    checkpoint = read_checkpoint(source.model)
    frontend = checkpoint.settings.frontend
    network = strip(checkpoint, source.exit)
    step = None
    if isinstance(network, DeployedStream):
        layout: steps.Layout = "channels last" if kind == "uint8" else "channels first"
        step = steps.trace(network, frontend, source.frames, source.batch != "1", layout)
        float_graph = step.graph
    elif source.frames != STEP:
        raise ShrikeError(
            f"--frames {source.frames}: {source.model} looks at whole windows; train one with --streaming"
        )
    else:
        float_graph = graph.trace(network, frontend, source.batch == "dynamic")
    trials, float_scores = None, None
    if corpus := gate.verification or int8.calibration:
        trials = gate.read_trials(frontend, corpus, source.cache, source.frames if step else None)
        float_scores = _scores(trials, float_graph, step, "float")
    else:
        say("no --verification corpus: the card will say that EER was not measured, and scores stay raw")
    prepared = Prepared(source, gate, checkpoint, float_graph, float_graph, precision, trials, float_scores, step=step)
    return prepared if precision == "fp32" else _quantised(prepared, int8, kind)


def _quantised(prepared: Prepared, int8: Int8, kind: "Kind") -> Prepared:
    from export import streaming_eval as streams
    from export import streaming_graph as steps
    from export.int8 import calibration, quantize, sensitivity
    from runtime.card import model_card as card
    from train.data.cache import build_cache
    from train.data.corpus import open_corpus, select
    from train.progress import say

    source, checkpoint, step, trials = prepared.source, prepared.checkpoint, prepared.step, prepared.trials
    settings, float_graph = checkpoint.settings, prepared.float_graph
    assert int8.calibration is not None
    if int8.qat and step is not None:
        raise ShrikeError("--qat: is for networks that look at whole windows; try --method percentile, or --min-snr")
    only = settings.data.only if int8.only is None else int8.only
    partition = select(open_corpus(int8.calibration, "train"), only)
    chosen = calibration.choose(partition, int8.calibration_trials, int8.seed)
    if trials is not None:
        calibration.check_disjoint(chosen, trials.cache.trials)
    say(f"calibration: {len(chosen):,} trials of {partition.describe()}")
    cache = build_cache(settings.frontend, chosen, source.cache)
    layers = quantize.plan(float_graph)
    if odd := sorted(set(int8.keep_float) - {layer.name for layer in layers}):
        raise ShrikeError(f"--keep-float {odd[0]}: no such layer; there are {', '.join(item.name for item in layers)}")
    names = quantize.tensors(layers)
    if step is None:
        crops = calibration.Crops(cache, int8.seed)
        ranges = calibration.find_ranges(float_graph, names, crops, int8.method, int8.percentile)
    else:
        crops = calibration.Clips(cache, int8.seed, source.frames)
        ranges = streams.find_ranges(step, names, crops, int8.method, int8.percentile)
    tuned = float_graph  # or what fine-tuning makes of it
    if int8.qat:
        from export.int8.qat import fine_tune

        tuned, ranges = fine_tune(float_graph, layers, ranges, checkpoint, partition, source.cache, int8)
    # From all over the list: it is sorted by name, and names go by source.
    every = max(1, len(crops) // sensitivity.WINDOWS)
    windows = list(itertools.islice(crops, 0, None, every))[: sensitivity.WINDOWS]
    run = None if step is None else partial(steps.last_logits, step)
    settled = sensitivity.settle(tuned, layers, ranges, windows, int8.min_snr, int8.keep_float, int8.report, run)
    by_design = quantize.float_by_design(tuned, layers)
    if int8.report:
        sensitivity.show(settled, layers, by_design)
    say(
        f"INT8: {len(settled.layers)} of {len(layers)} layers, scores {settled.total:.1f} dB above its noise"
        + "".join(f"\n  {name} stays float: {why}" for name, why in settled.stays_float.items())
    )
    quantised = quantize.quantise(tuned, settled.layers, ranges, kind)
    finished, drift = None, None
    if step is not None:
        finished = step.with_graph(quantised)
        if trials is not None and prepared.gate.drift_minutes:
            drift = streams.measure_drift(step, finished, trials.cache, prepared.gate.drift_minutes)
            say(f"drift: error {drift.first:.4f} in the first minute, {drift.sentence}")
    return replace(
        prepared,
        graph=quantised,
        calibration=calibration.describe(crops, partition, int8.method),
        quantisation=card.Quantisation("qat" if int8.qat else "ptq", kind, by_design | settled.stays_float),
        step=finished,
        drift=drift,
    )
