"""One tree of frozen dataclasses: the command line, the checkpoint and the docs all come from it.

Every field's comment is its `--help`. Defaults are the paper's (Xue et al., ICASSP 2023) where it has one.

Fields that came after checkpoints had been written are `later` (runtime.support.codec).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from runtime.audio.features import PRESETS, FrontEnd
from runtime.support.codec import build, later, plain
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearest
from train.augment import CODECS, RAWBOOST, RESAMPLE
from train.networks import NAMES, STREAMING

Switch = Literal["on", "off"]


@dataclass(frozen=True)
class Data:
    """What is learned from."""

    corpus: Path
    """Folder of the corpus: ASVspoof (2019, 2021, 5), or any that has protocols/train.txt, dev.txt and audio."""
    train_protocol: Path | None = None
    """A protocol file instead of the corpus's own for the training trials."""
    dev_protocol: Path | None = None
    """A protocol file instead of the corpus's own for the development trials, which select the best epoch."""
    only: str = ""
    """Only trials whose row in the corpus's metadata.csv says so train, as in open=1 or open=1,mp3=0."""
    frontend: Literal["f0", "wide"] = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-8 kHz."""
    level: Literal["none", "window-mean", "running-mean"] = "none"
    """Mean log power that is subtracted against a microphone's gain; --streaming takes the running one (2.4 s)."""
    sampling: Literal["natural", "balanced"] = "natural"
    """balanced draws bona fide and spoof equally often; natural takes every trial once an epoch."""
    cache: Path = Path("~/.cache/shrike")
    """Where features are kept between runs; safe to delete."""
    workers: int = 0
    """Processes that read batches; 0 reads in the training process (half-precision memory maps rarely need more)."""


@dataclass(frozen=True)
class Model:
    """What learns."""

    network: str = "ecanet9"
    """ecanet9, 18, 34, 50; senet9 to 50; res2net50, seres2net50, mpif50; ecamobile. --list-networks: their cost."""
    width: float = 1.0
    """Factor on every channel count; 0.25 tries ideas several times faster."""
    dropout: float = 0.0
    """Share of the pooled features that is dropped in front of every classifier."""
    streaming: bool = later(False, before=False)
    """Look back only and remember: a stream then costs its new frames alone. For senet, ecanet and ecamobile."""
    gate_seconds: float = later(1.0, before=1.0)
    """With --streaming, time constant of the averages behind the gates: as long as the first score waits."""


@dataclass(frozen=True)
class Distillation:
    """How the deepest stage teaches the shallow ones: loss = alpha hard + (1 - alpha) soft + beta feature."""

    distill: Switch = "on"
    """off trains the same network plainly: the baseline."""
    alpha: float = 0.7
    """Weight of the label against the teacher's prediction."""
    beta: float = 0.3
    """Weight of the distance between deep and shallow features."""
    temperature: float = 3.0
    """Softens both predictions before they are compared; the loss is scaled by its square."""
    loss: Literal["asoftmax", "amsoftmax", "ocsoftmax", "crossentropy"] = later("asoftmax", before="asoftmax")
    """Loss of the deepest classifier against the label; docs/training.md says what each of them asks for."""
    margin: Switch = "on"
    """off takes the loss's margin away: asoftmax is then a softmax on normalised weights, the next two on cosines."""
    teacher: Literal["deepest", "next", "average"] = later("deepest", before="deepest")
    """Who teaches: the deepest stage, as published; the next deeper one; or the moving average of the whole network."""
    decay: float = later(0.99, before=0.99)
    """Of the moving average: how much of it a step leaves; 0.99 looks back a hundred steps, give long runs 0.999."""
    ship: Literal["trained", "average"] = later("trained", before="trained")
    """Which network is judged on dev, saved in model.pt and exported: the trained one, or its average as a teacher."""
    feature: Literal["linear", "attention", "similarity", "relational"] = later("linear", before="linear")
    """What of the features is compared: linear as published, through a projection; the others need none."""
    balance: Literal["fixed", "uncertainty"] = later("fixed", before="fixed")
    """fixed: alpha and beta hold. uncertainty: they are where learned weights of the three losses begin."""

    teacher_model: Path | None = later(None, before=None)
    """A finished model.pt that gives the soft targets of all four stages, at every step, from the whole window."""

    @property
    def averages(self) -> bool:
        """Is there a moving average of the network?"""
        return self.distill == "on" and self.teacher == "average"


@dataclass(frozen=True)
class Augmentation:
    """Changes of training windows; by default a dither alone. The first six act on features, the others on sound."""

    gain: float = 0.0
    """Each window is made louder or softer by up to this many dB."""
    noise: tuple[float, float] | None = (-100.0, -80.0)
    """White noise is added at a level drawn between these two dB re full scale; by default a dither, None: none."""
    mask_bands: int = 0
    """Up to this many neighbouring bands of each window are replaced by its mean (SpecAugment)."""
    mask_frames: int = 0
    """Up to this many neighbouring frames of each window are replaced by its mean (SpecAugment)."""
    specmix: float = later(0.0, before=0.0)
    """Share of the windows into which frequency bands of another window of the batch are pasted (random SpecMix)."""
    specmix_label: Literal["share", "keep"] = later("share", before="share")
    """share mixes the label by the pasted share of the bands; keep leaves it as it was."""
    sound_share: float = later(0.5, before=0.5)
    """Probability with which each of the following touches a window, each on its own."""
    speed: float = later(0.0, before=0.0)
    """Sound is played up to this many percent faster and higher, or slower and lower."""
    rir: str = later("", before="")
    """Rooms: a folder of impulse responses as sound files, or the word synthetic for made ones (T60 0.1-0.8 s)."""
    snr: tuple[float, float] | None = later(None, before=None)
    """Noise is added to the sound at a ratio between these two dB, e.g. --snr 5 30."""
    noise_colour: Literal["white", "pink", "any"] = later("any", before="any")
    """Spectrum of that noise; any draws a slope from 0 to -6 dB an octave."""
    sound_gain: float = later(0.0, before=0.0)
    """Sound is made louder or softer by up to this many dB before the channel, and clipped at full scale."""
    rawboost: str = later("", before="")
    """RawBoost's noises in series, any of lnl,isd,ssi: convolutive, impulsive, stationary, as published."""
    band: Literal["full", "telephone", "random"] = later("full", before="full")
    """telephone keeps 300-3400 Hz; random draws a high-pass (20-400 Hz) and a low-pass (2-8 kHz)."""
    resample: str = later("", before="")
    """Round trips to another rate by random resamplers, any of 48000,44100,32000,24000,22050,8000 (Hz)."""
    codecs: str = later("", before="")
    """Codecs, one drawn for each window, any of alaw,mulaw,gsm,adpcm,opus,vorbis,mp3, with ffmpeg g722,amr."""
    dither: float = later(0.0, before=0.0)
    """DC is taken out and triangular dither of this many 16-bit steps put in, e.g. 1: no exact zeros, no offset."""

    @property
    def channel(self) -> bool:
        """Does a band, a resampler or a codec act on sound?"""
        return bool(self.band != "full" or self.resample or self.codecs)

    @property
    def on_sound(self) -> bool:
        """Does anything act on sound, so that features cannot come from the cache?"""
        gain = self.speed or self.sound_gain or self.dither
        return bool(gain or self.rir or self.snr or self.rawboost or self.channel)


@dataclass(frozen=True)
class Optimiser:
    """How it learns: Adam as published."""

    epochs: int = 32
    """Times through the training trials."""
    batch: int = 32
    """Trials at once, in one step, over all processes together."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine falls to zero at the last step."""
    warmup: int = 0
    """Steps in which the learning rate rises from zero."""
    weight_decay: float = 1e-4
    """L2 penalty inside Adam, as published."""
    clip: float = 5.0
    """Largest norm of the gradient; 0 does not clip."""
    sam: Literal["off", "plain", "adaptive"] = later("off", before="off")
    """plain: sharpness-aware minimisation, two passes a step. adaptive: ASAM, whose ball follows the weights' sizes."""
    rho: float = later(0.05, before=0.05)
    """Radius of the ball around the weights in which SAM looks for the highest loss; ASAM's paper takes 0.5."""
    seed: int = 0
    """Everything random follows from it: weights, order, crops, dropout, augmentation."""


@dataclass(frozen=True)
class Run:
    """Where and with what."""

    out: Path = Path("runs/model")
    """Folder of the run: model.pt (best on dev), last.pt, history.jsonl, curves.png, tensorboard/, dev.scores.txt."""
    resume: bool = False
    """Go on where the run in --out stopped; starts afresh if there is none."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the network computes in; auto: bf16 on a GPU that has it, else fp32."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""
    compile: bool = False
    """torch.compile the network: a minute or more at the start, faster steps afterwards."""


@dataclass(frozen=True)
class TrainConfig:
    """Train a network that tells real voices from fake ones."""

    data: tyro.conf.OmitArgPrefixes[Data]
    model: tyro.conf.OmitArgPrefixes[Model] = field(default_factory=Model)
    distillation: tyro.conf.OmitArgPrefixes[Distillation] = field(default_factory=Distillation)
    augmentation: tyro.conf.OmitArgPrefixes[Augmentation] = field(default_factory=Augmentation)
    optimiser: tyro.conf.OmitArgPrefixes[Optimiser] = field(default_factory=Optimiser)
    run: tyro.conf.OmitArgPrefixes[Run] = field(default_factory=Run)

    def __post_init__(self) -> None:
        model, distillation, augmentation, optimiser = self.model, self.distillation, self.augmentation, self.optimiser
        noise, snr = augmentation.noise or (0.0, 0.0), augmentation.snr or (0.0, 0.0)
        demands = [
            (
                model.network in NAMES,
                f"--network {model.network}: known are {', '.join(NAMES)}{nearest(model.network, NAMES)}",
            ),
            (
                not model.streaming or model.network in STREAMING,
                f"--streaming: {model.network} looks into the future; networks that can: {', '.join(STREAMING)}",
            ),
            (model.gate_seconds > 0, f"--gate-seconds {model.gate_seconds}: a number above 0 was expected"),
            (
                not model.streaming or self.data.level != "window-mean",
                "--streaming: a window's mean needs the future; give --level running-mean or none",
            ),
            (
                model.streaming or self.data.level != "running-mean",
                "--level running-mean belongs to --streaming; give --level window-mean or none",
            ),
            (
                distillation.teacher_model is None or distillation.distill == "on",
                "--teacher-model needs --distill on; --alpha says how much its word counts against the label",
            ),
            (0 < model.width <= 4, f"--width {model.width}: a factor above 0 and at most 4 was expected"),
            (0 <= model.dropout < 1, f"--dropout {model.dropout}: a share from 0 to below 1 was expected"),
            (0 <= distillation.alpha <= 1, f"--alpha {distillation.alpha}: a weight from 0 to 1 was expected"),
            (distillation.beta >= 0, f"--beta {distillation.beta}: a weight of 0 or more was expected"),
            (
                distillation.loss != "crossentropy" or distillation.margin == "on",
                "--margin off belongs to losses with a margin; crossentropy has none",
            ),
            (distillation.temperature > 0, f"--temperature {distillation.temperature}: a number above 0 was expected"),
            (0 <= distillation.decay < 1, f"--decay {distillation.decay}: a share from 0 to below 1 was expected"),
            (distillation.ship == "trained" or distillation.averages, "--ship average needs --teacher average"),
            (augmentation.gain >= 0, f"--gain {augmentation.gain}: a range in dB, 0 or more was expected"),
            (noise[0] <= noise[1], f"--noise {noise[0]} {noise[1]}: the lower level was expected first"),
            (
                0 <= augmentation.mask_bands < self.frontend.bands,
                "--mask-bands: fewer than the front-end has were expected",
            ),
            (
                0 <= augmentation.mask_frames < self.frontend.width,
                "--mask-frames: fewer than a window has were expected",
            ),
            (0 <= augmentation.specmix <= 1, f"--specmix {augmentation.specmix}: a share from 0 to 1 was expected"),
            (
                0 <= augmentation.sound_share <= 1,
                f"--sound-share {augmentation.sound_share}: a share from 0 to 1 was expected",
            ),
            (0 <= augmentation.speed <= 50, f"--speed {augmentation.speed}: percent, 0 to 50, were expected"),
            (snr[0] <= snr[1], f"--snr {snr[0]} {snr[1]}: the lower ratio was expected first"),
            (
                augmentation.sound_gain >= 0,
                f"--sound-gain {augmentation.sound_gain}: a range in dB, 0 or more was expected",
            ),
            (augmentation.dither >= 0, f"--dither {augmentation.dither}: 16-bit steps, 0 or more, were expected"),
            _known("--rawboost", augmentation.rawboost, RAWBOOST),
            _known("--resample", augmentation.resample, RESAMPLE),
            _known("--codecs", augmentation.codecs, CODECS),
            (optimiser.epochs > 0, f"--epochs {optimiser.epochs}: at least 1 was expected"),
            (optimiser.batch > 1, f"--batch {optimiser.batch}: at least 2, or batch norm has nothing to compare"),
            (optimiser.lr > 0, f"--lr {optimiser.lr}: a number above 0 was expected"),
            (optimiser.warmup >= 0, f"--warmup {optimiser.warmup}: a number of steps, 0 or more was expected"),
            (optimiser.weight_decay >= 0, f"--weight-decay {optimiser.weight_decay}: 0 or more was expected"),
            (optimiser.clip >= 0, f"--clip {optimiser.clip}: 0 or more was expected"),
            (optimiser.rho >= 0, f"--rho {optimiser.rho}: a radius, 0 or more was expected"),
            (0 <= optimiser.seed < 2**31, f"--seed {optimiser.seed}: a whole number from 0 to 2^31 - 1 was expected"),
            (self.data.workers >= 0, f"--workers {self.data.workers}: 0 or more was expected"),
        ]
        for holds, sentence in demands:
            if not holds:
                raise ShrikeError(sentence)

    @property
    def frontend(self) -> FrontEnd:
        return PRESETS[self.data.frontend].with_level(self.data.level)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as the checkpoint and the logs keep them."""
        return plain(self)

    def recipe(self) -> dict[str, Any]:
        """What makes the network what it is, flat: no folder, no device. The trials are held by their identity."""
        groups = self.to_dict()
        groups.pop("run")
        groups["augmentation"]["rir"] = Path(self.augmentation.rir).name
        groups["distillation"]["teacher_model"] = (self.distillation.teacher_model or Path()).name
        elsewhere = ("corpus", "train_protocol", "dev_protocol", "cache", "workers")
        return {name: value for group in groups.values() for name, value in group.items() if name not in elsewhere}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The reverse, from a file: every entry must be there unless it came later, known, and of its type."""
        return build(cls, values, "settings")


def _known(option: str, given: str, known: tuple[str, ...]) -> tuple[bool, str]:
    """A demand on a list such as alaw,gsm: every name is known."""
    return not given or set(given.split(",")) <= set(known), f"{option} {given}: any of {','.join(known)}"


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """What would make a resumed run another run, as sentences."""
    before, after = old.recipe(), new.recipe()
    return [
        f"--{name.replace('_', '-')} was {before[name]}, is {after[name]}"
        for name in before
        if before[name] != after[name]
    ]
