"""What is done to training windows, on the features and on the device they are on.

Gain and noise act on raw log power as they would on the sound; masks act after the level has been taken out.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from runtime.features import FrontEnd
from train.config import Augmentation
from train.frontend import level

NOISE_SECONDS = 30  # of white noise, sent through the front-end once; every window takes a random part of it
NEPER = math.log(10) / 10  # log power per dB


class Augment(nn.Module):
    """Raw log power (batch, 1, bands, width) -> what the network sees; outside training only the level is applied."""

    def __init__(self, settings: Augmentation, frontend: FrontEnd) -> None:
        super().__init__()
        self.settings, self.frontend = settings, frontend
        self.noise: Tensor
        if settings.noise:
            sound = np.random.default_rng(0).standard_normal(NOISE_SECONDS * frontend.rate).astype(np.float32)
            self.register_buffer("noise", torch.from_numpy(frontend.frames(sound).T.copy()), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        features = features.float()
        if not self.training:
            return level(features, self.frontend)
        settings, batch = self.settings, len(features)
        if settings.gain:
            features = features + self._uniform(features, -settings.gain, settings.gain) * NEPER
        if settings.noise:
            # Powers add (the cross term is zero on average); the noise has the front-end's own correlation in time.
            starts = torch.randint(self.noise.shape[1] - features.shape[3], (batch, 1), device=features.device)
            frames = starts + torch.arange(features.shape[3], device=features.device)
            noise = self.noise[:, frames].transpose(0, 1)[:, None]  # (batch, 1, bands, width)
            features = torch.logaddexp(features, noise + self._uniform(features, *settings.noise) * NEPER)
        features = level(features, self.frontend)
        for axis, longest in ((2, settings.mask_bands), (3, settings.mask_frames)):
            if longest:
                features = mask(features, axis, longest)
        return features

    def _uniform(self, like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty(len(like), 1, 1, 1, device=like.device).uniform_(low, high)


def mask(features: Tensor, axis: int, longest: int) -> Tensor:
    """SpecAugment (Park et al., 2019): 0 to `longest` neighbours along an axis become the window's mean.

    Deviation: the mean instead of zero, which in log power would be a loud tone.
    """
    size, shape = features.shape[axis], (len(features), 1, 1, 1)
    length = torch.randint(longest + 1, shape, device=features.device)
    start = (torch.rand(shape, device=features.device) * (size - length + 1)).long()
    place = torch.arange(size, device=features.device).view((1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1))
    inside = (place >= start) & (place < start + length)
    return torch.where(inside, features.mean(dim=(2, 3), keepdim=True), features)
