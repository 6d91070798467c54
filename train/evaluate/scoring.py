"""Scores of clips by every exit of a network, for dev after each epoch, train.score and train.teach."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed as dist

from runtime.audio.score_times import scored
from runtime.support.errors import ShrikeError
from train.augment.features import Augment
from train.checkpoint import Checkpoint
from train.config import Run, TrainConfig
from train.data.cache import FeatureCache, build_cache
from train.data.dataset import Windows, scoring_plan
from train.data.protocols import Trial
from train.device import ComputeDevice, select_device
from train.losses.distillation import DistillationModel

Scores = NDArray[np.float64]


def score_trials(
    checkpoint: Checkpoint, trials: Sequence[Trial], run: Run, folder: Path, mean: bool = False
) -> tuple[list[Trial], Scores]:
    """Score trials on the device of `run`, with the feature cache in `folder`: the readable ones, (clips, exits)."""
    settings = replace(checkpoint.settings, run=run)
    compute = select_device(settings)
    cache = build_cache(settings.frontend, trials, folder)
    model = checkpoint.distillation_model().to(compute.device)
    augment = Augment(settings.augmentation, settings.frontend).to(compute.device)
    return cache.trials, score_cache(model, augment, cache, settings, compute, mean)


def score_cache(
    model: DistillationModel,
    augment: Augment,
    cache: FeatureCache,
    settings: TrainConfig,
    compute: ComputeDevice,
    mean: bool = False,
) -> Scores:
    """Score every clip, (clips, exits): its first window, or the mean over windows. Processes share the work."""
    model.eval()
    augment.eval()
    plan = scoring_plan(cache, settings.optimiser.batch, mean, compute.rank, compute.world)
    exits = len(model.shallow) + 1
    # A streaming network is scored at the end of a short clip, without repeating it.
    ends = torch.tensor([scored(frames, cache.frontend) for frames in cache.lengths.tolist()])
    sums = torch.zeros(len(cache), exits + 1, dtype=torch.float64)  # the last column counts windows
    with torch.inference_mode(), torch.autocast(compute.device.type, torch.bfloat16, enabled=compute.bf16):
        windows = Windows(cache)
        for crops in plan:
            batch = windows.read(crops)
            # The last batch is padded with rows that are ignored: torch.compile would compile again for another size.
            rows = torch.arange(len(plan[0])).clamp(max=len(batch.clips) - 1)
            features = augment(batch.features[rows].to(compute.device)).contiguous(memory_format=compute.layout)
            scores = model.scores(features, ends[batch.clips[rows]])[: len(batch.clips)].double().cpu()
            sums.index_add_(0, batch.clips, torch.cat([scores, torch.ones(len(scores), 1)], dim=1))
    if compute.world > 1:
        shared = sums.to(compute.device)
        dist.all_reduce(shared)
        sums = shared.cpu()
    means = sums[:, :-1] / sums[:, -1:]
    if not bool(torch.isfinite(means).all()):
        raise ShrikeError("the network's scores are not finite; lower --lr, or train with --precision fp32")
    return means.numpy()
