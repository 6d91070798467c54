"""Vocoders: a recording re-synthesised with the same words, voice and length, as a fake.

    copy = open_vocoder("world", lyra=None)(samples, dice)      # (n,) float32 at 16 kHz -> (n,)

Wang and Yamagishi, "Spoofed training data for speech spoofing countermeasure can be efficiently created using neural
vocoders" (ICASSP 2023, arXiv 2210.10570). The packages are for training machines only.

    lyra           Lyra v2, a neural codec at 3.2, 6 or 9.2 kb/s (google/lyra, lyra/model_coeffs)
    world          WORLD by pyworld: DIO, StoneMask, CheapTrick, D4C (Morise et al., 2016)
    lpc            linear prediction of order 18, excited by pulses or noise, as LPC-10
    griffin-lim    phase from 80 mel bands by 32 iterations (Griffin and Lim, 1984)
    FILE.onnx      any vocoder or codec with one input; its name in protocols is the file's

An ONNX file with an input (1, bands, frames) gets HiFi-GAN's log-mel: 22,050 Hz, 1024-point Hann window, hop 256,
Slaney bands over 0-8 kHz, natural logarithm of at least 1e-5. One with (1, samples) or (1, 1, samples) gets sound at
16 kHz. A metadata entry `sample_rate` of the file replaces either rate. The first output is the sound.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torchaudio.functional import griffinlim, melscale_fbanks

from runtime.audio.features import Samples
from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package
from train.augment import LYRA
from train.augment.filters import Dice, as_long

Vocoder = Callable[[Samples, Dice], Samples]

RATE = 16_000  # Hz
MEL_RATE = 22_050  # Hz, of HiFi-GAN's published models
WINDOW, HOP, BANDS, HIGHEST = 1024, 256, 80, 8000.0  # samples, samples, bands, Hz: HiFi-GAN's log-mel
ITERATIONS = 32  # of Griffin-Lim
ORDER, FRAME, STEP = 18, 400, 160  # of linear prediction: coefficients, samples, samples
LOUDEST = 4.0  # a synthesis filter beyond it is unstable
BLOCK, FEATURES, BITS = 320, 64, (16, 30, 46)  # of Lyra: samples, features, quantisers of its three bit rates


def open_vocoder(name: str, lyra: Path | None) -> Vocoder:
    """Load a vocoder by its name on the command line; Lyra's models are in the folder `lyra`."""
    if name == "lyra":
        assert lyra is not None, "the command line requires --lyra"
        return Lyra(lyra)
    if name in SIMPLE:
        if name != "griffin-lim":
            pyworld()  # an error now
        return SIMPLE[name]
    return OnnxVocoder(Path(name))


def world(sound: Samples, dice: Dice) -> Samples:
    tools, samples = pyworld(), sound.astype(np.float64)
    f0, times = tools.dio(samples, RATE)
    f0 = tools.stonemask(samples, f0, times, RATE)
    spectrum, aperiodicity = tools.cheaptrick(samples, f0, times, RATE), tools.d4c(samples, f0, times, RATE)
    return as_long(tools.synthesize(f0, spectrum, aperiodicity, RATE).astype(np.float32), len(sound))


def pyworld() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports a deprecated module
        return require_package("pyworld")


def lpc(sound: Samples, dice: Dice) -> Samples:
    lfilter = require_package("scipy.signal").lfilter
    samples, window, hop = sound.astype(np.float64), np.hanning(FRAME), np.arange(STEP)
    lags = np.arange(ORDER)
    f0, _ = pyworld().dio(samples, RATE, frame_period=1000 * STEP / RATE)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (FRAME // 2, FRAME)), FRAME)[::STEP]
    weighted = frames * window
    power = np.stack([(weighted[:, : FRAME - lag] * weighted[:, lag:]).sum(axis=1) for lag in range(ORDER + 1)], axis=1)
    power[:, 0] = power[:, 0] * 1.0001 + 1e-9  # a noise floor, so that the equations have a solution
    filters = np.linalg.solve(power[:, abs(lags[:, None] - lags)], power[:, 1:, None])[:, :, 0]
    gains = np.sqrt(np.maximum(power[:, 0] - (filters * power[:, 1:]).sum(axis=1), 0.0) / (window @ window))
    result, state, place = np.zeros(len(frames) * STEP), np.zeros(ORDER), 0.0
    for number, (taps, gain) in enumerate(zip(filters, gains, strict=True)):
        pitch = f0[min(number, len(f0) - 1)]
        if pitch > 0:
            period, excitation = RATE / pitch, np.zeros(STEP)
            pulses = np.arange(place, STEP, period)
            excitation[pulses.astype(int)] = np.sqrt(period)
            place = (pulses[-1] + period if len(pulses) else place) - STEP
        else:
            excitation, place = dice.standard_normal(STEP), 0.0
        block, state = lfilter([gain], np.r_[1.0, -taps], excitation, zi=state)
        if not np.isfinite(block).all() or np.abs(block).max() > LOUDEST:
            block, state = np.clip(np.nan_to_num(block), -1.0, 1.0), np.zeros(ORDER)
        result[number * STEP + hop] = block
    return result[: len(sound)].astype(np.float32)


def griffin_lim(sound: Samples, dice: Dice) -> Samples:
    mel, inverse = _mel(RATE)
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(
        torch.from_numpy(sound), WINDOW, HOP, window=window, return_complex=True, pad_mode="constant"
    ).abs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(dice.integers(2**31)))
        found = griffinlim(
            (inverse @ (mel @ spectrum)).clamp_min(0), window=window, n_fft=WINDOW, hop_length=HOP, win_length=WINDOW,
            power=1.0, n_iter=ITERATIONS, momentum=0.99, length=len(sound), rand_init=True,
        )  # fmt: skip
    result: Samples = found.numpy()
    return result


SIMPLE: dict[str, Vocoder] = {"world": world, "lpc": lpc, "griffin-lim": griffin_lim}


class Lyra:
    """Lyra v2 by LiteRT, at a bit rate that is drawn for each clip."""

    def __init__(self, folder: Path) -> None:
        self.interpreter = require_package("ai_edge_litert.interpreter").Interpreter
        self.encoder, quantiser, self.decoder = ((folder / name).read_bytes() for name in LYRA)
        self.quantiser = self._open(quantiser)
        self.encode, self.decode = (self.quantiser.get_signature_runner(name) for name in ("encode", "decode"))

    def _open(self, model: bytes) -> Any:
        network = self.interpreter(model_content=model, num_threads=1)
        network.allocate_tensors()
        return network

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        # New for every clip, in 6 ms: reset_all_variables() leaves the state of the clip before.
        encoder, decoder = self._open(self.encoder), self._open(self.decoder)
        bits = np.int32(BITS[dice.integers(len(BITS))])
        padded = np.pad(sound, (0, 2 * BLOCK + -len(sound) % BLOCK)).astype(np.float32)
        blocks = []
        for block in padded.reshape(-1, 1, BLOCK):
            features = _run(encoder, block).reshape(1, 1, FEATURES)
            indices = self.encode(input_frames=features, num_quantizers=bits)["output_0"]  # (46, 1, 1), -1: not sent
            (features,) = self.decode(encoding_indices=indices).values()
            blocks.append(_run(decoder, features.reshape(1, 1, FEATURES)).ravel())
        return np.concatenate(blocks)[: len(sound)]


def _run(network: Any, value: NDArray[np.float32]) -> NDArray[np.float32]:
    network.set_tensor(network.get_input_details()[0]["index"], value)
    network.invoke()
    result: NDArray[np.float32] = network.get_tensor(network.get_output_details()[0]["index"])
    return result


class OnnxVocoder:
    """A vocoder or codec in ONNX with one input, mel bands or sound."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common type
            raise ShrikeError(f"--by {path}: cannot be loaded ({' '.join(str(error).split())[:120]})") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) > 3:
            raise ShrikeError(f"--by {path}: {len(inputs)} inputs; expected one, (1, bands, frames) or (1, samples)")
        found = inputs[0]
        self.input, self.rank = found.name, len(found.shape)
        self.of_sound = self.rank < 3 or found.shape[1] == 1
        rate = RATE if self.of_sound else MEL_RATE
        self.rate = int(self.session.get_modelmeta().custom_metadata_map.get("sample_rate", rate))

    def __call__(self, sound: Samples, dice: Dice) -> Samples:
        samples = soxr.resample(sound, RATE, self.rate)
        shape = (1,) * (self.rank - 1) + (-1,)
        value = samples.reshape(shape) if self.of_sound else log_mel(samples, self.rate)[None]
        made = np.asarray(self.session.run(None, {self.input: value})[0], np.float32).ravel()
        return as_long(soxr.resample(made, self.rate, RATE), len(sound))


def log_mel(sound: Samples, rate: int) -> NDArray[np.float32]:
    """Compute HiFi-GAN's input: (n,) -> (80, about n / 256) float32."""
    edge = (WINDOW - HOP) // 2
    padded = torch.nn.functional.pad(torch.from_numpy(sound)[None], (edge, edge + HOP), mode="reflect")[0]
    spectrum = torch.stft(padded, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True)
    result: NDArray[np.float32] = (_mel(rate)[0] @ (spectrum.abs() ** 2 + 1e-9).sqrt()).clamp_min(1e-5).log().numpy()
    return result


@lru_cache
def _mel(rate: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the matrix of 80 Slaney bands, and its pseudo-inverse."""
    matrix = melscale_fbanks(WINDOW // 2 + 1, 0.0, HIGHEST, BANDS, rate, norm="slaney", mel_scale="slaney").T
    return matrix, torch.linalg.pinv(matrix)
