"""The front-end of runtime.audio.features in torchaudio: batched, on CPU or GPU, for waveforms that change in training.

The spectrum is taken in float64: in float32 a bin 60 dB under its neighbours is already wrong by more than 1e-3 nat.
"""

from functools import cache

import torch
from torch import Tensor, nn
from torchaudio.transforms import Spectrogram

from runtime.audio.features import FLOOR, FrontEnd
from train.networks.streaming import RunningLevel


class TorchFrontEnd(nn.Module):
    """(batch, samples) -> (batch, 1, bands, n) float32, level applied over the n frames that come."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        self.frontend = frontend
        self.spectrogram = Spectrogram(
            frontend.window,
            frontend.window,
            frontend.hop,
            power=2.0,
            center=False,
            window_fn=torch.blackman_window,
            wkwargs={"dtype": torch.float64},
        )
        self.register_buffer("matrix", torch.from_numpy(frontend.matrix), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        power = self.spectrogram(waveform.double())
        power = power[:, : self.frontend.bands] if self.frontend.shape == "bins" else self.matrix @ power
        return level(power.clamp_min(FLOOR).log()[:, None].float(), self.frontend)


class SoundFrontEnd(nn.Module):
    """Waveforms of training -> raw windows, as the feature cache would give them: (batch, 1, bands, width) float32."""

    def __init__(self, frontend: FrontEnd) -> None:
        super().__init__()
        self.frames = TorchFrontEnd(frontend.with_level("none"))

    def forward(self, sound: Tensor, order: Tensor) -> Tensor:
        """(batch, samples), (batch, width) which frame stands where: a short clip repeats its frames."""
        frames = self.frames(sound)
        return frames.gather(3, order[:, None, None].expand(-1, 1, frames.shape[2], -1))


def level(features: Tensor, frontend: FrontEnd) -> Tensor:
    """runtime.audio.features.level for a batch (batch, 1, bands, width)."""
    if frontend.level == "none":
        return features
    if frontend.level == "window-mean":
        return features - features.mean(dim=(2, 3), keepdim=True)
    leveled: Tensor = _running_level(features.device)(features)
    return leveled


@cache
def _running_level(device: torch.device) -> RunningLevel:
    with torch.inference_mode(False):  # a first caller in inference mode must not make it unusable for training
        return RunningLevel().to(device)
