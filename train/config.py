"""Options of training as frozen dataclasses: the command line, the checkpoint's record and the docs.

A field's docstring is its `--help`. Defaults are the paper's (Xue et al., ICASSP 2023) where it names one. Fields that
older checkpoints lack are `later` (runtime.support.codec).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from runtime.audio.features import PRESETS, FrontEnd, Preset
from runtime.support.codec import build, later, plain
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearest
from train.augment import CODECS, RAWBOOST, RESAMPLE
from train.networks import ENCODER_LAYERS, NAMES, STAGES, STREAMING

Switch = Literal["on", "off"]


@dataclass(frozen=True)
class Data:
    """Training data."""

    corpus: tuple[Path, ...]
    """Folders of one or several corpora: ASVspoof (2019, 2021, 5), or any with protocols/train.txt, dev.txt, audio."""
    train_protocol: Path | None = None
    """Protocol file of the training trials, instead of the corpus's own."""
    dev_protocol: Path | None = None
    """Protocol file of the development trials, which select the best epoch, instead of the corpus's own."""
    only: str = ""
    """Train only on trials whose row in the corpus's metadata.csv matches, as in open=1 or open=1,mp3=0."""
    leave_out: str = later("", before="")
    """Fold to leave out of the training trials, as in 3/10: the third of ten folds by source (train.teach)."""
    frontend: Preset = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-7 kHz. mel: Whisper's log-mel.
    mel7k: its bands below 7 kHz."""
    level: Literal["none", "window-mean", "running-mean", "window-max"] = "none"
    """Log power to subtract, against a microphone's gain; --streaming takes running-mean, the encoder window-max."""
    sampling: Literal["natural", "balanced", "balanced-sources"] = "natural"
    """natural: every trial once per epoch. balanced: classes equally. balanced-sources: also sources and systems."""
    cache: Path = Path("~/.cache/shrike")
    """Folder of the feature cache; safe to delete."""
    workers: int = 0
    """Processes that read training batches; 0: the training process, which is enough for cached features."""

    def __post_init__(self) -> None:
        if isinstance(self.corpus, str | Path):  # a single one
            object.__setattr__(self, "corpus", (Path(self.corpus),))


@dataclass(frozen=True)
class Model:
    """The network."""

    network: str = "ecanet9"
    """ecanet9, 18, 34, 50; senet9 to 50; res2net50, seres2net50, mpif50; ecamobile; encoder. --list-networks: cost."""
    width: float = 1.0
    """Factor on every channel count; 0.25 trains several times faster."""
    stem_stride: tuple[int, int] = later((1, 1), before=[1, 1])
    """Strides of the first convolution along bands and frames; 2 2 quarters all work. ecamobile has at least 1 2."""
    dropout: float = 0.0
    """Share of the pooled features that is dropped before every classifier."""
    streaming: bool = later(False, before=False)
    """Train a causal, stateful network; streaming inference then processes only new frames. Not for Res2Nets."""
    gate_seconds: float = later(1.0, before=1.0)
    """With --streaming, time constant in s of the gates' averages."""
    init: Path | None = later(None, before=None)
    """A model.pt whose weights training starts from (fine-tuning); it must have the same network and front-end."""
    encoder_size: Literal["tiny", "base", "small"] = later("base", before="base")
    """Size of Whisper's encoder for --network encoder: 384, 512 or 768 channels."""
    encoder_weights: Path | None = later(None, before=None)
    """Whisper's weights, OpenAI's .pt, Transformers' model.safetensors or CTranslate2's model.bin; None: random."""
    layers: int = later(3, before=3)
    """Layers of the encoder, each with an exit."""
    tuned_layers: int = later(0, before=0)
    """Last layers of the encoder that train; 0 freezes it, one more than --layers trains its convolutions as well."""
    encoder_rate: float = later(0.1, before=0.1)
    """Factor on the learning rate of the encoder's own weights."""

    @property
    def exits(self) -> int:
        """Number of stages that a classifier can end."""
        return self.layers if self.network == "encoder" else STAGES


@dataclass(frozen=True)
class Distillation:
    """Self-distillation: loss = alpha hard + (1 - alpha) soft + beta feature."""

    distill: Switch = "on"
    """off trains the same network without distillation: the baseline."""
    alpha: float = 0.7
    """Weight of the label; the teacher's prediction has 1 - alpha."""
    beta: float = 0.3
    """Weight of the distance between deep and shallow features."""
    temperature: float = 3.0
    """Softens both predictions in the soft loss, which is scaled by its square."""
    loss: Literal["asoftmax", "amsoftmax", "ocsoftmax", "crossentropy"] = later("asoftmax", before="asoftmax")
    """Loss of the deepest classifier against the label (docs/training.md)."""
    margin: Switch = "on"
    """off removes the loss's margin: asoftmax is then a softmax on normalised weights, the next two on cosines."""
    teacher: Literal["deepest", "next", "average"] = later("deepest", before="deepest")
    """The deepest stage, as published; the next deeper stage; or the moving average of the whole network."""
    decay: float = later(0.99, before=0.99)
    """Decay per step of the moving average; 0.99 averages about 100 steps, long runs need 0.999."""
    ship: Literal["trained", "average"] = later("trained", before="trained")
    """Network that is scored on dev, saved in model.pt and exported: the trained one, or its moving average."""
    feature: Literal["linear", "attention", "similarity", "relational"] = later("linear", before="linear")
    """Feature distance: linear, through a projection, as published; the others have no weights."""
    balance: Literal["fixed", "uncertainty"] = later("fixed", before="fixed")
    """fixed: alpha and beta are constant. uncertainty: they start weights that are learned."""
    teacher_model: Path | None = later(None, before=None)
    """A windowed model.pt whose logits are the soft targets of all four stages, at every step."""

    pair_loss: float = later(0.0, before=0.0)
    """Weight of the contrastive loss; half of each batch are then originals and their copies (train.vocode)."""

    soft_labels: Path | None = later(None, before=None)
    """Soft labels of training clips from python -m train.teach; clips without one have their label alone."""
    soft_weight: float = later(0.5, before=0.5)
    """With --soft-labels, their share of the loss against the label."""
    soft_temperature: float = later(1.0, before=1.0)
    """With --soft-labels, softens both predictions in their loss, which is scaled by its square."""

    @property
    def averages(self) -> bool:
        """True if there is a moving average of the network."""
        return self.distill == "on" and self.teacher == "average"


@dataclass(frozen=True)
class Augmentation:
    """Changes of training windows; by default a dither alone. The first six act on features, the others on sound."""

    gain: float = 0.0
    """Each window is made louder or softer by up to this many dB."""
    noise: tuple[float, float] | None = (-100.0, -80.0)
    """White noise is added at a level between these two dB re full scale; by default a dither; -200 -200: none."""
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
    versions: int = later(0, before=0)
    """Versions of each clip's sound that are made once and cached; epochs take turns. 0 changes each window anew."""
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

    def of_sound(self) -> dict[str, Any]:
        """Return the options that act on sound."""
        apart = ("gain", "noise", "mask_bands", "mask_frames", "specmix", "specmix_label", "versions")
        return {name: value for name, value in plain(self).items() if name not in apart}


@dataclass(frozen=True)
class Optimiser:
    """Optimisation: Adam as published."""

    epochs: int = 32
    """Passes over the training trials."""
    batch: int = 32
    """Trials per step, over all processes together."""
    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine falls to zero at the last step."""
    warmup: int = 0
    """Steps of linear warm-up from zero."""
    weight_decay: float = 1e-4
    """L2 penalty inside Adam, as published."""
    clip: float = 5.0
    """Maximum norm of the gradient; 0 does not clip."""
    sam: Literal["off", "plain", "adaptive"] = later("off", before="off")
    """plain: sharpness-aware minimisation, two passes per step. adaptive: ASAM, its ball scaled by the weights."""
    rho: float = later(0.05, before=0.05)
    """Radius of SAM's ball around the weights; ASAM's paper takes 0.5."""
    seed: int = 0
    """Seed of weights, order, crops, dropout and augmentation."""


@dataclass(frozen=True)
class Run:
    """Output folder and hardware."""

    out: Path = Path("runs/model")
    """Folder of the run: model.pt (best on dev), last.pt, history.jsonl, curves.png, tensorboard/, dev.scores.txt."""
    resume: bool = False
    """Continue the run in --out from last.pt; starts a new run if there is none."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the network; auto: bf16 on a GPU that supports it, else fp32."""
    threads: int = 0
    """CPU threads of the network; 0 leaves PyTorch's choice."""
    compile: bool = False
    """torch.compile the network: a minute or more at the start, then faster steps."""


class Range(NamedTuple):
    """The values that an option accepts."""

    holds: Callable[[Any], bool]
    expected: str


def names_of(known: tuple[str, ...]) -> Range:
    """Accept a list such as alaw,gsm of known names, or nothing."""
    return Range(lambda x: not x or set(x.split(",")) <= set(known), f"any of {','.join(known)}")


def read_fold(text: str) -> tuple[int, int] | None:
    """Read "3/10", the third of ten folds, as (3, 10); None if it is no fold of at least two."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) >= 2):
        return None
    return int(number), int(count)


ABOVE_ZERO = Range(lambda x: x > 0, "a number above 0")
ZERO_OR_MORE = Range(lambda x: x >= 0, "0 or more")
SHARE = Range(lambda x: 0 <= x <= 1, "a share from 0 to 1")
BELOW_ONE = Range(lambda x: 0 <= x < 1, "a share from 0 to below 1")
RANGES = {
    **dict.fromkeys(("gate_seconds", "temperature", "soft_temperature", "epochs", "lr", "encoder_rate"), ABOVE_ZERO),
    **dict.fromkeys(("pair_loss", "beta", "gain", "sound_gain", "dither", "warmup", "weight_decay"), ZERO_OR_MORE),
    **dict.fromkeys(("clip", "rho", "workers", "versions", "mask_bands", "mask_frames"), ZERO_OR_MORE),
    **dict.fromkeys(("alpha", "specmix", "sound_share", "soft_weight"), SHARE),
    **dict.fromkeys(("dropout", "decay"), BELOW_ONE),
    "leave_out": Range(lambda x: not x or read_fold(x) is not None, "a fold as in 3/10, the third of ten"),
    "stem_stride": Range(lambda x: set(x) <= {1, 2}, "1 or 2, of bands and of frames"),
    "width": Range(lambda x: 0 < x <= 4, "a factor above 0, at most 4"),
    "speed": Range(lambda x: 0 <= x <= 50, "0 to 50 percent"),
    "batch": Range(lambda x: x > 1, "at least 2, for batch norm"),
    "rawboost": names_of(RAWBOOST),
    "codecs": names_of(CODECS),
    "resample": names_of(RESAMPLE),
    "seed": Range(lambda x: 0 <= x < 2**31, "an integer from 0 to 2^31 - 1"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Train a network that detects fake speech."""

    data: tyro.conf.OmitArgPrefixes[Data]
    model: tyro.conf.OmitArgPrefixes[Model] = field(default_factory=Model)
    distillation: tyro.conf.OmitArgPrefixes[Distillation] = field(default_factory=Distillation)
    augmentation: tyro.conf.OmitArgPrefixes[Augmentation] = field(default_factory=Augmentation)
    optimiser: tyro.conf.OmitArgPrefixes[Optimiser] = field(default_factory=Optimiser)
    run: tyro.conf.OmitArgPrefixes[Run] = field(default_factory=Run)

    def __post_init__(self) -> None:
        for group in (self.data, self.model, self.distillation, self.augmentation, self.optimiser):
            for option in fields(group):
                value = getattr(group, option.name)
                if option.name in RANGES and not RANGES[option.name].holds(value):
                    name = option.name.replace("_", "-")
                    raise ShrikeError(f"--{name} {value}: expected {RANGES[option.name].expected}")
        name, streaming, level = self.model.network, self.model.streaming, self.data.level
        learning, changes, frontend = self.distillation, self.augmentation, self.frontend
        layers, tuned, deepest = self.model.layers, self.model.tuned_layers, ENCODER_LAYERS[self.model.encoder_size]
        noise, snr = changes.noise or (0.0, 0.0), changes.snr or (0.0, 0.0)
        causal = ", ".join(STREAMING)
        rules = [
            (name in NAMES, f"--network {name}: expected one of {', '.join(NAMES)}{nearest(name, NAMES)}"),
            (not streaming or name in STREAMING, f"--streaming: {name} has no causal form; expected one of {causal}"),
            (not streaming or level != "window-mean", "--level window-mean: not causal; expected running-mean or none"),
            (streaming or level != "running-mean", "--level running-mean: needs --streaming; expected window-mean"),
            (
                name != "encoder" or level == "window-max",
                f"--level {level}: the encoder takes window-max, of --frontend mel or mel7k",
            ),
            (level != "window-max" or frontend.shape == "mel", "--level window-max: needs --frontend mel or mel7k"),
            (name != "encoder" or learning.feature != "attention", "--feature attention: the encoder has no maps"),
            (name != "encoder" or 1 <= layers <= deepest, f"--layers {layers}: expected 1 to {deepest}"),
            (0 <= tuned <= layers + 1, f"--tuned-layers {tuned}: expected 0 to {layers + 1}"),
            (
                self.model.init is None or not self.data.leave_out,
                "--leave-out: not with --init, which knows the fold",
            ),
            (
                self.model.init is None or self.model.encoder_weights is None,
                "--encoder-weights: not with --init, whose weights would replace them",
            ),
            (learning.teacher_model is None or learning.distill == "on", "--teacher-model: needs --distill on"),
            (not learning.pair_loss or not changes.specmix, "--pair-loss: not with --specmix, which mixes classes"),
            (learning.soft_labels is None or not changes.specmix, "--soft-labels: not with --specmix"),
            (learning.loss != "crossentropy" or learning.margin == "on", "--margin off: crossentropy has no margin"),
            (learning.ship == "trained" or learning.averages, "--ship average: needs --teacher average"),
            (not changes.versions or changes.on_sound, "--versions: needs an option that changes sound"),
            (noise[0] <= noise[1], f"--noise {noise[0]} {noise[1]}: expected the lower level first"),
            (snr[0] <= snr[1], f"--snr {snr[0]} {snr[1]}: expected the lower ratio first"),
            (changes.mask_bands < frontend.bands, f"--mask-bands: expected less than {frontend.bands}"),
            (changes.mask_frames < frontend.width, f"--mask-frames: expected less than {frontend.width}"),
        ]
        for holds, sentence in rules:
            if not holds:
                raise ShrikeError(sentence)

    @property
    def frontend(self) -> FrontEnd:
        return PRESETS[self.data.frontend].with_level(self.data.level)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in the checkpoint and the logs."""
        return plain(self)

    def recipe(self) -> dict[str, Any]:
        """Return the options that determine the network, flat; the trials are identified by their hash."""
        groups = self.to_dict()
        groups.pop("run")
        elsewhere = ("corpus", "train_protocol", "dev_protocol", "cache", "workers")
        flat = {name: value for group in groups.values() for name, value in group.items() if name not in elsewhere}
        files = ("rir", "teacher_model", "soft_labels", "encoder_weights", "init")  # by name, in whatever folder
        return flat | {name: Path(flat[name] or "").name for name in files}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Read to_dict() strictly: every entry must be known, of its type, and present unless it is `later`."""
        data = values.get("data")
        if isinstance(data, Mapping) and isinstance(data.get("corpus"), str):  # before several were possible
            values = {**values, "data": {**data, "corpus": [data["corpus"]]}}
        changes = values.get("augmentation")
        if isinstance(changes, Mapping) and "renew" in changes:  # before --versions
            values = {**values, "augmentation": {name: changes[name] for name in changes if name != "renew"}}
        return build(cls, values, "settings")


# Options that determine the network's weights and their input: those of a model.pt must be the same for --init.
ARCHITECTURE = (
    *("frontend", "level", "network", "width", "stem_stride", "streaming", "gate_seconds"),
    *("encoder_size", "layers", "loss"),
)


def differences(old: TrainConfig, new: TrainConfig, names: Sequence[str] = ()) -> list[str]:
    """Return the options whose values differ, as sentences: of `names`, or all that make it another run."""
    before, after = old.recipe(), new.recipe()
    return [
        f"--{name.replace('_', '-')} was {before[name]}, is {after[name]}"
        for name in names or before
        if before[name] != after[name]
    ]
