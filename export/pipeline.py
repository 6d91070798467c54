"""From options to the graph that ships: what `python -m export.onnx` and `python -m export.trt` share.

    prepared = prepare(source, int8, gate, "int8", "uint8")      # strip, trace, calibrate, quantise
    judged = judge(prepared, scores)                             # export.record: Rejected, or what the card says
    path = place(source, ".onnx")

Options are groups of fields that each command puts together into its own; heavy imports wait until they are parsed.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from runtime.errors import ShrikeError
from runtime.suggestions import nearby, nearest

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from export.quantize import Kind
    from export.verify import Limits, Trials
    from runtime import card
    from runtime.features import FrontEnd
    from train.checkpoint import Checkpoint


@dataclass(frozen=True)
class Source:
    """What is exported."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train."""
    exit: int = 4
    """4: the whole network. 1 to 3: a shallow one that self-distillation taught, with its own classifier."""
    batch: Literal["1", "dynamic"] = "1"
    """Windows at once: 1, as a stream needs it, or dynamic, any number."""
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

    def __post_init__(self) -> None:
        if self.asv is not None and not self.asv.is_file():  # it is read when all trials went through both models
            raise ShrikeError(f"--asv {self.asv}: the organisers' file of scores was expected{nearby(self.asv)}")

    @property
    def limits(self) -> "Limits":
        from export.verify import Limits

        return Limits(eer_rise=self.max_eer_rise / 100, bootstrap=self.bootstrap)

    def read_trials(self, frontend: "FrontEnd", corpus: Path, folder: Path) -> "Trials":
        from export.verify import read_trials

        return read_trials(
            frontend,
            corpus,
            folder,
            self.verification_protocol,
            self.verification_trials,
            self.verification_windows,
            self.limits.eer_rise,
        )


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
    exits: bool = False,
) -> Prepared:
    """Checkpoint -> graph; everything up to the files. With `exits` the graphs give the shallow exits' logits, too."""
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
    from export.strip import strip, strip_exits
    from train.checkpoint import read_checkpoint
    from train.progress import say

    checkpoint = read_checkpoint(source.model)
    settings = checkpoint.settings
    if exits:
        network = strip_exits(checkpoint)
        float_graph = graph.trace(network, settings.frontend, shallow=len(network.exits))
    else:
        float_graph = graph.trace(strip(checkpoint, source.exit), settings.frontend, source.batch == "dynamic")
    trials, float_scores = None, None
    if corpus := gate.verification or int8.calibration:
        trials = gate.read_trials(settings.frontend, corpus, source.cache)
        float_scores = trials.scores(graph.as_engine(float_graph), "float")
    else:
        say("no --verification corpus: the card will say that EER was not measured, and scores stay raw")
    if precision == "fp32":
        return Prepared(source, gate, checkpoint, float_graph, float_graph, "fp32", trials, float_scores)
    return _quantised(source, int8, gate, checkpoint, float_graph, kind, trials, float_scores)


def _quantised(
    source: Source,
    int8: Int8,
    gate: Gate,
    checkpoint: "Checkpoint",
    float_graph: "onnx.ModelProto",
    kind: "Kind",
    trials: "Trials | None",
    float_scores: "NDArray[np.float64] | None",
) -> Prepared:
    from export import calibration, quantize, sensitivity
    from runtime import card
    from train.cache import build_cache
    from train.corpus import open_corpus, select
    from train.progress import say

    settings = checkpoint.settings
    assert int8.calibration is not None
    only = settings.data.only if int8.only is None else int8.only
    partition = select(open_corpus(int8.calibration, "train"), only)
    chosen = calibration.choose(partition, int8.calibration_trials, int8.seed)
    if trials is not None:
        calibration.check_disjoint(chosen, trials.cache.trials)
    say(f"calibration: {len(chosen):,} trials of {partition.describe()}")
    crops = calibration.Crops(build_cache(settings.frontend, chosen, source.cache), int8.seed)
    layers = quantize.plan(float_graph)
    if odd := sorted(set(int8.keep_float) - {layer.name for layer in layers}):
        known = [layer.name for layer in layers]
        raise ShrikeError(f"--keep-float {odd[0]}: no such layer; there are {', '.join(known)}{nearest(odd[0], known)}")
    names = quantize.tensors(layers)
    ranges = calibration.find_ranges(float_graph, names, crops, int8.method, int8.percentile)
    tuned = float_graph  # or what fine-tuning makes of it
    if int8.qat:
        from export.qat import fine_tune

        tuned, ranges = fine_tune(float_graph, layers, ranges, checkpoint, partition, source.cache, int8)
    # From all over the list: it is sorted by name, and names go by source.
    every = max(1, len(crops) // sensitivity.WINDOWS)
    windows = list(itertools.islice(crops, 0, None, every))[: sensitivity.WINDOWS]
    settled = sensitivity.settle(tuned, layers, ranges, windows, int8.min_snr, int8.keep_float, int8.report)
    by_design = quantize.float_by_design(tuned, layers)
    if int8.report:
        sensitivity.show(settled, layers, by_design)
    say(
        f"INT8: {len(settled.layers)} of {len(layers)} layers, scores {settled.total:.1f} dB above its noise"
        + "".join(f"\n  {name} stays float: {why}" for name, why in settled.stays_float.items())
    )
    return Prepared(
        source,
        gate,
        checkpoint,
        float_graph,
        quantize.quantise(tuned, settled.layers, ranges, kind),
        "int8",
        trials,
        float_scores,
        calibration.describe(crops, partition, int8.method),
        card.Quantisation("qat" if int8.qat else "ptq", kind, by_design | settled.stays_float),
    )
