"""The levels of runtime.audio.features in torch: batched, on CPU or GPU, with a gradient."""

from functools import cache

import torch
from torch import Tensor

from runtime.audio.features import DECADES, LN10, LOUDEST, FrontEnd
from train.networks.streaming import RunningLevel


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
