"""Augmentation of training windows' features, on the device they are on.

Gain and noise act on raw log power as they would on the sound; masks act after the level has been taken out, and
SpecMix comes last, for it mixes windows. What is done to the sound itself stands in train.augment.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from runtime.audio.features import FLOOR, FrontEnd
from train.config import Augmentation
from train.data.level import level

NOISE_SECONDS = 30  # of white noise, sent through the front-end once; every window takes a random part of it
NEPER = math.log(10) / 10  # log power per dB
PASTED = 2  # bands that SpecMix pastes at most, as in Kim et al. (2021)
WIDEST = 4  # a pasted band is at most 1/4 of the window's bands wide, so that two leave half of it


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
        return self.with_level(features)[0]

    def with_level(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the level that was taken out: their sum is raw log power again."""
        features = features.float()
        if not self.training:
            leveled = level(features, self.frontend)
            return leveled, features - leveled
        settings, batch = self.settings, len(features)
        if settings.gain:
            features = features + self._uniform(features, -settings.gain, settings.gain) * NEPER
            features = features.clamp_min(math.log(FLOOR))
        if settings.noise:
            # Powers add (the cross term is zero on average); the noise has the front-end's own correlation in time.
            starts = torch.randint(self.noise.shape[1] - features.shape[3], (batch, 1), device=features.device)
            frames = starts + torch.arange(features.shape[3], device=features.device)
            noise = self.noise[:, frames].transpose(0, 1)[:, None]  # (batch, 1, bands, width)
            features = torch.logaddexp(features, noise + self._uniform(features, *settings.noise) * NEPER)
        raw, features = features, level(features, self.frontend)
        taken = raw - features
        for axis, longest in ((2, settings.mask_bands), (3, settings.mask_frames)):
            if longest:
                features = mask(features, axis, longest)
        return features, taken

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


def specmix(features: Tensor, target: Tensor, share: float, label: str) -> tuple[Tensor, Tensor]:
    """Random SpecMix (Dong et al., 2023): into a share of the windows, bands of another one of the batch are pasted.

    Each chosen window gets one or two runs of neighbouring bands, over all frames, of one other window; frames stay
    where they are. The abstract names no label rule. `share` is the original SpecMix's (Kim et al., Interspeech 2021):
    the target becomes floating point, the share of bona fide bands; `keep` leaves it. Deviations from the original:
    bands only, as in the paper (no runs of frames), and a run's width is drawn from 1 to a quarter of the bands.

    (batch, 1, bands, width), (batch,) of 0 and 1 -> the same shapes
    """
    batch, device = len(features), features.device
    if batch < 2:
        return features, target
    bands = features.shape[2]
    partner = (torch.arange(batch, device=device) + torch.randint(1, batch, (batch,), device=device)) % batch
    chosen = torch.rand(batch, 1, device=device) < share
    runs = torch.arange(PASTED, device=device) < torch.randint(1, PASTED + 1, (batch, 1), device=device)
    length = torch.randint(1, max(1, bands // WIDEST) + 1, (batch, PASTED), device=device)
    start = (torch.rand(batch, PASTED, device=device) * (bands - length + 1)).long()
    place = torch.arange(bands, device=device)[:, None]
    inside = (place >= start[:, None]) & (place < (start + length)[:, None])  # (batch, bands, runs)
    pasted = (inside & (runs & chosen)[:, None]).any(dim=2)  # (batch, bands)
    features = torch.where(pasted[:, None, :, None], features[partner], features)
    if label == "keep":
        return features, target
    portion = pasted.float().mean(dim=1)
    return features, (1 - portion) * target + portion * target[partner]
