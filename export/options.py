"""Options that python -m export.onnx and python -m export.trt share, one frozen dataclass for each group.

    options.model     ModelOptions   the checkpoint, the form of its graph, where the files go
    options.int8      Int8Options    calibration, mixed precision, fine-tuning
    options.gate      GateOptions    the trials that decide, and the loss that is allowed

Each group validates its values when it is made, before anything is opened. Nothing heavy is imported here.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from runtime.audio.score_times import STEP
from runtime.card.schema import require
from runtime.support.suggestions import nearby

SHORTEST_DRIFT = 3  # minutes: the first, one between, the first again
LONGEST_DRIFT = 24 * 60  # minutes
ENDINGS = (".onnx", ".engine", ".json")  # of --out, which names files without them

Precision = Literal["fp32", "int8"]
Batch = Literal["1", "dynamic"]


@dataclass(frozen=True)
class ModelOptions:
    """The checkpoint and the form of its export."""

    model: tyro.conf.Positional[Path]
    """A model.pt of python -m train; export.trt also takes a model.onnx of export.onnx --target tensorrt."""
    exit: int | None = None
    """Exit to export, 1 is the shallowest trained by self-distillation; by default the last one, the whole network."""
    fuse: Path | None = None
    """A second model.pt with the same front-end: one graph with both networks, whose score is the mean of theirs."""
    batch: Batch | None = None
    """Windows at once: 1, or dynamic for any number; by default 1, and dynamic for streaming models."""
    frames: int = STEP
    """New frames a step of a streaming model; 16 are 130 ms; a multiple of the model's stride, 8 or 16."""
    out: str | None = None
    """Folder (existing, or ending in /), or path of the new files without ending; by default beside the model."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""

    def __post_init__(self) -> None:
        require(self.exit is None or self.exit >= 1, f"--exit {self.exit}: expected 1 or more")
        require(self.frames > 0, f"--frames {self.frames}: expected a multiple of the model's stride, 8 or 16")

    def output_path(self, ending: str) -> Path:
        """Path of a file of this export: beside the model, in the folder --out, or under the name --out."""
        if self.out is None:
            return self.model.with_suffix(ending)
        out = Path(self.out)
        if out.is_dir() or self.out.endswith("/"):  # Path drops the slash
            return out / f"{self.model.stem}{ending}"
        return out.with_suffix(ending) if out.suffix in ENDINGS else Path(f"{out}{ending}")


@dataclass(frozen=True)
class Int8Options:
    """Calibration, mixed precision and fine-tuning."""

    calibration: Path | None = None
    """Folder of the corpus whose training trials set the INT8 ranges; required for INT8."""
    only: str | None = None
    """Calibrate only with trials whose row in the corpus's metadata.csv has these values; by default as in training."""
    calibration_trials: int = 500
    """Number of calibration trials, half of each class, balanced over attacks."""
    method: Literal["min-max", "entropy", "percentile"] = "min-max"
    """Range estimator: min-max clips nothing seen; entropy and percentile clip rare peaks for finer steps."""
    percentile: float = 99.999
    """Percentage of values that --method percentile leaves unclipped."""
    min_snr: float = 30.0
    """Signal-to-noise ratio of the scores in dB; the noisiest layers stay float until it is reached."""
    keep_float: tuple[str, ...] = ()
    """Layers that stay float in any case, by the names that --report shows."""
    report: bool = False
    """Measure each layer alone and show which stay float and why."""
    qat: int = 0
    """Epochs of fine-tuning with fake quantisation on the training trials; 0: none."""
    qat_lr: float = 1e-4
    """Learning rate of that fine-tuning, with cosine decay to zero."""
    seed: int = 0
    """Everything random follows from it: calibration trials, their crops, the order of fine-tuning."""

    def __post_init__(self) -> None:
        count = self.calibration_trials
        require(count >= 1, f"--calibration-trials {count}: expected 1 or more; 500 are enough")
        require(0 < self.percentile <= 100, f"--percentile {self.percentile}: expected more than 0, at most 100")
        require(self.qat >= 0, f"--qat {self.qat}: expected a number of epochs, 0 or more")
        require(self.qat_lr > 0, f"--qat-lr {self.qat_lr}: expected a number above 0")
        require(self.seed >= 0, f"--seed {self.seed}: expected 0 or more")


@dataclass(frozen=True)
class GateOptions:
    """Verification trials and the loss that is allowed."""

    verification: Path | None = None
    """Folder of the corpus whose development trials go through both models; by default the calibration corpus."""
    verification_protocol: Path | None = None
    """Protocol file of these trials instead of the corpus's own; without labels only agreement is measured."""
    verification_trials: int = 0
    """Number of verification trials, drawn at random; 0: all."""
    verification_windows: int = 0
    """Windows per trial; 0: as many as make the EER's step a quarter of --max-eer-rise, 1 on a long list."""
    asv: Path | None = None
    """The organisers' speaker-verification scores, for min t-DCF."""
    max_eer_rise: float = 0.2
    """Allowed rise of the EER in percent (absolute); a model beyond it is not written: exit code 3."""
    accept_unproven: bool = False
    """Write a model whose rise is above --max-eer-rise by less than the trials can resolve; the card notes it."""
    sure: float | None = None
    """Operating point in the card, P(spoof) that claims spoof; by default the lowest from 0.7 on that calls at
    most 1 % of bona fide trials spoof. benchmarks.stream --alarms shows what it means for a stream."""
    bootstrap: int = 1000
    """Resamples behind every 95 % interval."""
    drift_minutes: int = 60
    """Minutes that a streaming model runs without a reset to measure INT8's drift; 0: no check."""

    def __post_init__(self) -> None:
        trials, windows, minutes = self.verification_trials, self.verification_windows, self.drift_minutes
        require(trials >= 0, f"--verification-trials {trials}: expected 0 (all) or more")
        require(windows >= 0, f"--verification-windows {windows}: expected 0 (automatic) or more")
        sure = self.sure
        require(sure is None or 0.5 < sure < 1, f"--sure {sure}: expected a probability above 0.5 and below 1")
        require(self.bootstrap >= 1, f"--bootstrap {self.bootstrap}: expected 1 or more")
        require(
            minutes == 0 or SHORTEST_DRIFT <= minutes <= LONGEST_DRIFT,
            f"--drift-minutes {minutes}: expected 0 (no check) or {SHORTEST_DRIFT} to {LONGEST_DRIFT}",
        )
        # The file is read after all trials went through both models: check it now.
        require(
            self.asv is None or self.asv.is_file(),
            f"--asv {self.asv}: expected the organisers' score file" + (nearby(self.asv) if self.asv else ""),
        )

    @property
    def eer_rise(self) -> float:
        """Allowed rise as a fraction."""
        return self.max_eer_rise / 100
