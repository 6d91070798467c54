"""The front-end of runtime.audio.features in torchaudio: batched, on CPU or GPU, for waveforms that change in training.

The spectrum is taken in float64: in float32 a bin 60 dB under its neighbours is already wrong by more than 1e-3 nat.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.transforms import Spectrogram

from runtime.audio.features import DECADES, FLOOR, LN10, LOUDEST, FrontEnd
from runtime.audio.high_pass import BLOCK, pole
from train.networks.streaming import RunningLevel


class TorchHighPass(nn.Module):
    """runtime.audio.high_pass for a batch: (batch, samples) float64 -> the same shape."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.power: Tensor  # a^0 to a^512
        self.register_buffer("power", pole(rate) ** torch.arange(BLOCK + 1, dtype=torch.float64), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        count, rise = waveform.shape[1], torch.diff(waveform, dim=1, prepend=waveform[:, :1])
        rise = nn.functional.pad(rise, (0, -count % BLOCK)).unflatten(1, (-1, BLOCK))  # (batch, blocks, 512)
        inside = (rise / self.power[:-1]).cumsum(2) * self.power[:-1]
        # What every block carries over from all blocks before it: a geometric sum, as a small triangular matrix.
        age = torch.arange(inside.shape[1], device=waveform.device)
        age = age[:, None] - age - 1  # whole blocks between the end of one and the start of another
        weights = torch.where(age >= 0, self.power[-1] ** age.clamp_min(0), 0.0)
        carried = inside[:, :, -1] @ weights.T  # (batch, blocks)
        return (inside + carried[:, :, None] * self.power[1:]).flatten(1)[:, :count]


class TorchFrontEnd(nn.Module):
    """(batch, samples) -> (batch, 1, bands, n) float32, level applied over the n frames that come."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        self.frontend = frontend
        self.high_pass = TorchHighPass(frontend.rate)
        self.spectrogram = Spectrogram(
            frontend.window,
            frontend.window,
            frontend.hop,
            power=2.0,
            center=False,
            window_fn=torch.hann_window if frontend.shape == "mel" else torch.blackman_window,
            wkwargs={"dtype": torch.float64},
        )
        self.register_buffer("matrix", torch.from_numpy(frontend.matrix), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.of_filtered(self.high_pass(waveform.double()))

    def of_filtered(self, waveform: Tensor) -> Tensor:
        """The same of samples behind the high-pass."""
        power = self.spectrogram(waveform.double())
        power = power[:, : self.frontend.bands] if self.frontend.shape == "bins" else self.matrix @ power
        return level(power.clamp_min(FLOOR).log()[:, None].float(), self.frontend)


class SoundFrontEnd(nn.Module):
    """High-passed waveforms -> raw windows, as the feature cache gives them: (batch, 1, bands, width) float32."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        self.frames = TorchFrontEnd(frontend.with_level("none"))

    def forward(self, sound: Tensor, order: Tensor) -> Tensor:
        """(batch, samples), (batch, width) which frame stands where: a short clip repeats its frames."""
        if sound.device.type == "cpu":  # the runtime's own front-end is several times faster there
            definition = self.frames.frontend
            found = np.stack([definition.frames_of(clip) for clip in sound.double().numpy()])
            frames = torch.from_numpy(found).transpose(1, 2)[:, None]
        else:
            frames = self.frames.of_filtered(sound)
        return frames.gather(3, order[:, None, None].expand(-1, 1, frames.shape[2], -1))


def level(features: Tensor, frontend: FrontEnd) -> Tensor:
    """runtime.audio.features.level for a batch (batch, 1, bands, width)."""
    if frontend.level == "none":
        return features
    if frontend.level == "window-mean":
        return features - features.mean(dim=(2, 3), keepdim=True)
    if frontend.level == "window-max":
        relative = (features - features.amax(dim=(2, 3), keepdim=True)) / (4 * LN10) + LOUDEST
        return relative.clamp_min(LOUDEST - DECADES / 4)
    leveled: Tensor = _running_level(features.device)(features)
    return leveled


@cache
def _running_level(device: torch.device) -> RunningLevel:
    with torch.inference_mode(False):  # a first caller in inference mode must not make it unusable for training
        return RunningLevel().to(device)
